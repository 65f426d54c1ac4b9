"""The bars of a trace, each a text of a given number of columns."""

from __future__ import annotations

from rich.text import Text

from cli.trace.axis import AttemptTimes, Axis

WAITING, RUNNING, WORKING, RUNS_ON, WHOLE = "░", "▒", "█", "▸", "─"
QUIET = "bright_black"


def attempt_bar(axis: Axis, times: AttemptTimes, width: int, *, colour: str, runs_on: bool) -> Text:
    """One attempt: waiting, running, and its work, which is drawn at the end of the attempt."""
    cells = dict[int, tuple[str, str]]()
    if times.wait > 0:
        cells |= dict.fromkeys(axis.cells(times.due, times.claimed, width), (WAITING, QUIET))
    if times.ran:
        ran = axis.cells(times.claimed, times.ended, width)
        cells |= dict.fromkeys(ran, (RUNNING, colour))
        if times.work:
            began = max(times.claimed, times.ended - times.work)
            cells |= dict.fromkeys(axis.cells(began, times.ended, width), (WORKING, colour))
        if runs_on:
            cells[ran[-1]] = (RUNS_ON, colour)
    return Text.assemble(*(cells.get(place, (" ", "")) for place in range(width)), no_wrap=True)


def line(axis: Axis, begin: float, end: float, width: int) -> Text:
    """A thin line over a phase or the whole iteration, between two seconds of the axis."""
    cells = axis.cells(begin, end, width)
    return Text(" " * cells.start + WHOLE * len(cells), style=QUIET, no_wrap=True)
