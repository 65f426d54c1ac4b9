"""The curve of a task's scores: as a PNG with intervals, and as text for a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from contracts.http import IterationView
from contracts.report import Score

if TYPE_CHECKING:
    from matplotlib.axes import Axes

DEV, TEST, INK, FAINT = "#0072B2", "#D55E00", "#222222", "#D8D8D8"
"""Okabe and Ito's blue and vermillion: told apart by every eye, and in grey."""


def save_png(path: Path, turns: Sequence[IterationView], *, title: str, subtitle: str) -> None:
    """Draw dev and test with their 95 % intervals over the iterations, rows as a second line of labels."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib.figure import Figure
    from matplotlib.ticker import PercentFormatter

    figure = Figure(figsize=(8, 4.8), dpi=160, layout="constrained")
    axes = figure.add_subplot()
    tested = [(turn.iteration, turn.test) for turn in turns if turn.test]
    _curve(axes, [(turn.iteration, turn.dev) for turn in turns], DEV, "o", "dev (steers the loop)")
    _curve(axes, tested, TEST, "s", "test (sealed)")
    _end_values(axes, turns)
    figure.suptitle(title, x=0.01, ha="left", fontsize=13, fontweight="bold", color=INK)
    axes.set_title(subtitle, loc="left", fontsize=9, color="#666666", pad=10)
    axes.set_xticks([turn.iteration for turn in turns], [f"{turn.iteration}\n{turn.rows:,} rows" for turn in turns])
    axes.set_xlabel("iteration")
    axes.set_ylabel(turns[0].dev.metric.value.replace("_", " "))
    axes.set_ylim(0, 1)
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    axes.margins(x=0.08)
    axes.grid(axis="y", color=FAINT, linewidth=0.8)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(length=0, colors=INK)
    axes.legend(loc="lower right", frameon=False)
    figure.savefig(path)


def _curve(axes: Axes, points: Sequence[tuple[int, Score]], colour: str, marker: str, label: str) -> None:
    """A line with its interval as a band."""
    x = [iteration for iteration, _ in points]
    low, high = [score.low for _, score in points], [score.high for _, score in points]
    axes.fill_between(x, low, high, color=colour, alpha=0.13, linewidth=0)
    y = [score.value for _, score in points]
    axes.plot(x, y, color=colour, marker=marker, markersize=5, linewidth=2, label=label)


def _end_values(axes: Axes, turns: Sequence[IterationView]) -> None:
    """Write the first and the last values at their points, the greater above, the smaller below."""
    for turn in (turns[0], turns[-1]):
        scores = [(turn.dev, DEV)] + ([(turn.test, TEST)] if turn.test else [])
        for place, (score, colour) in enumerate(sorted(scores, key=lambda item: -item[0].value)):
            axes.annotate(
                f"{score.value:.0%}",
                (turn.iteration, score.value),
                xytext=(0, -16 if place else 16),
                textcoords="offset points",
                ha="center",
                va="center",
                color=colour,
                fontweight="bold",
            )


def terminal_chart(turns: Sequence[IterationView], *, width: int, colour: bool) -> str:
    """The same two curves as lines of text, at most `width` columns wide."""
    import plotext

    figure = plotext.figure
    figure.clear()
    figure.theme("clear")
    figure.plot_size(width, 16)
    x = [turn.iteration for turn in turns]
    for label, marker, y in (
        ("dev", "•", [turn.dev.value for turn in turns]),
        ("test", "+", [turn.test.value for turn in turns if turn.test]),
    ):
        if y:
            figure.draw(figure.signal(x[: len(y)], y, marker=marker).label(label).lines())
    figure.ruler("y").lim(0, 1)
    figure.ruler("y").ticks([0, 0.25, 0.5, 0.75, 1])
    figure.ruler("x").ticks(x)
    figure.label("iteration", axis="x")
    return str(figure.build().string(colorless=not colour))
