"""Draws throughput and idle latency of all contestants as one chart."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter, ScalarFormatter

FIRST_COLOUR, COLOUR = "#0b6e4f", "#9aa5b1"


def draw(readings: Mapping[str, Mapping[str, float]], path: Path) -> None:
    """Write two bar charts side by side to `path`; the first contestant has its own colour."""
    figure = Figure(figsize=(11, 0.6 * len(readings) + 1.6), layout="tight")
    rate, latency = figure.subplots(1, 2)
    _bars(rate, readings, "tasks_per_s", "three-phase tasks a second (more is better)")
    _bars(latency, readings, "idle_p50_ms", "idle latency of three phases, p50 ms (less is better)")
    latency.set_xscale("log")
    latency.xaxis.set_major_formatter(ScalarFormatter())
    latency.xaxis.set_minor_formatter(NullFormatter())
    figure.savefig(path, dpi=120)


def _bars(axes: Axes, readings: Mapping[str, Mapping[str, float]], key: str, title: str) -> None:
    names = list(readings)[::-1]
    colours = [FIRST_COLOUR if name == next(iter(readings)) else COLOUR for name in names]
    bars = axes.barh(names, [readings[name][key] for name in names], color=colours)
    axes.bar_label(bars, fmt="%.4g", padding=3)
    axes.set_title(title, fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)
    axes.margins(x=0.15)
