"""Render a board for a terminal: a bar for each phase, the scores so far, the newest notes."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from cli.tasks.board import Bar, Board
from cli.tasks.view import iterations_table, status_text
from cli.terminal import text
from contracts.tasks import Phase

METRICS_SHOWN = 2
NOTES_SHOWN, NOTICES_SHOWN = 3, 5
METRIC_LABELS = {"tokens_per_second": "tokens/s", "rows_per_second": "rows/s", "learning_rate": "lr"}


def render(board: Board) -> RenderableType:
    """The whole board, as wide as the terminal."""
    parts: list[RenderableType] = [_heading(board), _bars(board), *_notices(board)]
    if board.iterations:
        parts += ["", iterations_table(board.iterations, board.best)]
    parts += [text(note, style="yellow") for note in board.notes[-NOTES_SHOWN:]]
    return Group(*parts)


def _notices(board: Board) -> list[Text]:
    """What the completed phases of this iteration did with the rows, one line each."""
    lines = [line for bar in board.bars.values() for line in bar.notices]
    if len(lines) > NOTICES_SHOWN:
        lines = [*lines[: NOTICES_SHOWN - 1], f"{len(lines) - NOTICES_SHOWN + 1} more: see `treadle show`"]
    return [text(line, style="bright_black", no_wrap=True, overflow="ellipsis") for line in lines]


def _heading(board: Board) -> Text:
    iteration = f" · iteration {board.iteration} of at most {board.max_iterations}" if board.max_iterations > 1 else ""
    return text((board.name, "bold"), " · ", status_text(board.status), iteration)


def _bars(board: Board) -> Table:
    grid = Table.grid(padding=(0, 1), expand=True)
    grid.add_column(width=8)
    grid.add_column(width=20)
    grid.add_column(width=4, justify="right")
    grid.add_column(width=9, justify="right")
    grid.add_column(ratio=1, no_wrap=True, overflow="ellipsis")
    for phase in Phase:
        bar = board.bars.get(phase)
        if bar is None:
            grid.add_row(text(phase.value, style="bright_black"), ProgressBar(total=1, completed=0))
        else:
            grid.add_row(phase.value, _bar(bar), _percent(bar), _time(bar), _detail(bar))
    return grid


def _bar(bar: Bar) -> ProgressBar:
    fraction = bar.fraction
    if fraction is None:
        return ProgressBar(total=None, pulse=True)
    return ProgressBar(total=1, completed=fraction)


def _percent(bar: Bar) -> str:
    return "" if bar.fraction is None else f"{bar.fraction:.0%}"


def _time(bar: Bar) -> str:
    if bar.seconds is not None:
        return f"{bar.seconds:.1f} s"
    return "" if bar.eta is None else f"{duration(bar.eta)} left"


def _detail(bar: Bar) -> str:
    if bar.seconds is not None:
        return bar.stage
    metrics = [
        f"{METRIC_LABELS.get(name, name)} {number(value)}" for name, value in list(bar.metrics.items())[:METRICS_SHOWN]
    ]
    return " · ".join([bar.stage, *metrics]) if bar.stage else ""


def number(value: float) -> str:
    """Format a metric with about three digits: `33,120`, `1.23`, `0.0003`."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def duration(seconds: float) -> str:
    """Format seconds in one unit: `8s`, `3m`, `2h`."""
    if seconds < 100:
        return f"{seconds:.0f}s"
    minutes = seconds / 60
    return f"{minutes:.0f}m" if minutes < 100 else f"{minutes / 60:.0f}h"
