"""Charts of a task's scores: a PNG with intervals, and text for a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from contracts.http import IterationView
from contracts.report import Score

if TYPE_CHECKING:
    from matplotlib.axes import Axes

DEV_COLOUR, TEST_COLOUR, TEXT_COLOUR, GRID_COLOUR = "#0072B2", "#D55E00", "#222222", "#D8D8D8"
"""Blue and vermillion of Okabe and Ito's palette: distinguishable with colour blindness and in grey."""


def save_png(path: Path, results: Sequence[IterationView], *, title: str, subtitle: str) -> None:
    """Draw the dev and test scores of the iterations with their 95 % intervals; labels show the number of rows."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib.figure import Figure
    from matplotlib.ticker import PercentFormatter

    figure = Figure(figsize=(8, 4.8), dpi=160, layout="constrained")
    axes = figure.add_subplot()
    tested = [(result.iteration, result.test) for result in results if result.test]
    _curve(axes, [(result.iteration, result.dev) for result in results], DEV_COLOUR, "o", "dev (used by the loop)")
    _curve(axes, tested, TEST_COLOUR, "s", "test (sealed)")
    _end_values(axes, results)
    figure.suptitle(title, x=0.01, ha="left", fontsize=13, fontweight="bold", color=TEXT_COLOUR)
    axes.set_title(subtitle, loc="left", fontsize=9, color="#666666", pad=10)
    axes.set_xticks(
        [result.iteration for result in results], [f"{result.iteration}\n{result.rows:,} rows" for result in results]
    )
    axes.set_xlabel("iteration")
    axes.set_ylabel(results[0].dev.metric.value.replace("_", " "))
    axes.set_ylim(0, 1)
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    axes.margins(x=0.08)
    axes.grid(axis="y", color=GRID_COLOUR, linewidth=0.8)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(length=0, colors=TEXT_COLOUR)
    axes.legend(loc="lower right", frameon=False)
    figure.savefig(path)


def _curve(axes: Axes, points: Sequence[tuple[int, Score]], colour: str, marker: str, label: str) -> None:
    """Draw a line with its interval as a band."""
    x = [iteration for iteration, _ in points]
    low, high = [score.low for _, score in points], [score.high for _, score in points]
    axes.fill_between(x, low, high, color=colour, alpha=0.13, linewidth=0)
    y = [score.value for _, score in points]
    axes.plot(x, y, color=colour, marker=marker, markersize=5, linewidth=2, label=label)


def _end_values(axes: Axes, results: Sequence[IterationView]) -> None:
    """Label the first and the last points with their values, the greater above, the smaller below."""
    for result in (results[0], results[-1]):
        scores = [(result.dev, DEV_COLOUR)] + ([(result.test, TEST_COLOUR)] if result.test else [])
        for index, (score, colour) in enumerate(sorted(scores, key=lambda item: -item[0].value)):
            axes.annotate(
                f"{score.value:.0%}",
                (result.iteration, score.value),
                xytext=(0, -16 if index else 16),
                textcoords="offset points",
                ha="center",
                va="center",
                color=colour,
                fontweight="bold",
            )


def terminal_chart(results: Sequence[IterationView], *, width: int, colour: bool) -> str:
    """The same two curves as text, at most `width` columns wide."""
    import plotext

    figure = plotext.figure
    figure.clear()
    figure.theme("clear")
    figure.plot_size(width, 16)
    x = [result.iteration for result in results]
    for label, marker, y in (
        ("dev", "•", [result.dev.value for result in results]),
        ("test", "+", [result.test.value for result in results if result.test]),
    ):
        if y:
            figure.draw(figure.signal(x[: len(y)], y, marker=marker).label(label).lines())
    figure.ruler("y").lim(0, 1)
    figure.ruler("y").ticks([0, 0.25, 0.5, 0.75, 1])
    figure.ruler("x").ticks(x)
    figure.label("iteration", axis="x")
    return str(figure.build().string(colorless=not colour))
