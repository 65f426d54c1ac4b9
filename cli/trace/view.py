"""Draw the trace of an iteration: a tree of phases and attempts, each with its times and its bar."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import zip_longest

from rich.table import Table
from rich.text import Text

from cli.durations import format_duration
from cli.tasks.view import status_text
from cli.tasks.work import work_text
from cli.terminal import Terminal, text
from cli.trace.axis import AttemptTimes, Axis
from cli.trace.bars import RUNNING, RUNS_ON, WAITING, WORKING, attempt_bar, line
from contracts.tasks import Phase
from contracts.traces import PhaseSpan, TraceView

COLOUR = {
    "completed": "green",
    "failed": "red",
    "lost": "red",
    "paused": "yellow",
    "fenced": "magenta",
    "cancelled": "yellow",
    "running": "cyan",
    "dispatched": "bright_black",
}
AS_PLANNED = frozenset({"completed", "running", "dispatched"})
"""Attempts in these states need no explanation below the tree."""
DEFAULT_REASON = {
    "lost": "its worker sent no heartbeat, and its lease expired",
    "failed": "it reported no reason",
}
WORKER_FROM = 110
"""Columns of a terminal from which the workers are shown."""
MAX_WORKER = 24
MIN_BAR = 8
"""Columns."""
SECONDS_UP_TO = 100
"""Seconds below which a time is shown with a decimal."""
LEGEND = f"{WAITING} waiting  {RUNNING} running  {WORKING} work, drawn at the end of its attempt"
COLUMN_GAP = 2


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the tree; `bar` draws its bar for a number of columns."""

    name: Text
    start: str
    bar: Callable[[int], Text]
    wait: str = ""
    run: str = ""
    work: str = ""
    worker: str = ""


def show_trace(trace: TraceView, terminal: Terminal | None = None) -> None:
    """Print the trace as wide as the terminal."""
    terminal, axis = terminal or Terminal(), Axis(trace)
    terminal.print(*_heading(trace), "", _tree(trace, axis, terminal), "", sep="\n")
    runs_on = f"  {RUNS_ON} still running" if trace.ended_at is None else ""
    terminal.print(text(LEGEND + runs_on, style="bright_black"))
    for note in _notes(trace, axis):
        terminal.print(note)


def _heading(trace: TraceView) -> Iterator[Text]:
    state = "in progress" if trace.ended_at is None else "ended"
    newest = "" if trace.iteration == trace.iterations else f", iteration {trace.iterations}"
    where = f" · iteration {trace.iteration}, {state} · the task is "
    yield text((trace.task_name, "bold"), where, status_text(trace.status), newest)
    yield text("trace ", (trace.trace_id, "bold"), f", began {trace.began_at.astimezone():%Y-%m-%d %H:%M:%S}")
    work = work_text(trace, so_far=trace.ended_at is None)
    if work:
        yield text(f"work {work}")


def _tree(trace: TraceView, axis: Axis, terminal: Terminal) -> Table:
    """The whole tree; the bars get the columns that its other cells leave."""
    rows, with_workers = list(_rows(trace, axis)), terminal.width >= WORKER_FROM
    used = terminal.measure(_table(rows, with_workers)).maximum
    width = max(MIN_BAR, terminal.width - used - COLUMN_GAP)
    return _table(rows, with_workers, (text(axis.marks(width), no_wrap=True), *(row.bar(width) for row in rows)))


def _table(rows: Sequence[Row], with_workers: bool, bars: Sequence[Text] = ()) -> Table:
    """The rows as a table; without `bars`, which begin with their header, only the columns before them."""
    table = Table(box=None, header_style="bright_black", pad_edge=False)
    table.add_column("", no_wrap=True)
    for name in ("start", "wait", "run", "work"):
        table.add_column(name, justify="right", no_wrap=True)
    if with_workers:
        table.add_column("worker", no_wrap=True, overflow="ellipsis", max_width=MAX_WORKER)
    if bars:
        table.add_column(bars[0], no_wrap=True)
    for row, bar in zip_longest(rows, bars[1:]):
        cells = (row.name, row.start, row.wait, row.run, row.work)
        table.add_row(*cells, *([row.worker] if with_workers else []), *([bar] if bars else []))
    return table


def _rows(trace: TraceView, axis: Axis) -> Iterator[Row]:
    """The iteration, and each phase followed by its attempts."""
    work = "" if trace.work_seconds is None else _time(trace.work_seconds)
    whole = partial(line, axis, 0.0, axis.seconds)
    yield Row(text(f"iteration {trace.iteration}"), _time(0), whole, run=_time(axis.seconds), work=work)
    phases = [phase for phase in Phase if any(span.phase is phase for span in trace.spans)]
    for phase in phases:
        spans = [span for span in trace.spans if span.phase is phase]
        yield from _phase_rows(phase, spans, axis, last=phase is phases[-1])


def _phase_rows(phase: Phase, spans: Sequence[PhaseSpan], axis: Axis, *, last: bool) -> Iterator[Row]:
    times = [AttemptTimes(span, axis) for span in spans]
    begin, end = min(each.due for each in times), max(each.ended for each in times)
    yield Row(text(f"{'└' if last else '├'}─ {phase}"), _time(begin), partial(line, axis, begin, end))
    for number, (span, each) in enumerate(zip(spans, times, strict=True), 1):
        colour, branch = COLOUR[span.status], "└" if number == len(spans) else "├"
        yield Row(
            text(f"{' ' if last else '│'}  {branch}─ a{span.attempt} ", (_state(span), colour)),
            _time(each.due),
            partial(attempt_bar, axis, each, colour=colour, runs_on=span.status == "running"),
            wait=_time(each.wait),
            run=_time(each.run) if each.ran else "",
            work="" if each.work is None else _time(each.work),
            worker=span.worker_id or "",
        )


def _state(span: PhaseSpan) -> str:
    return "waiting" if span.status == "dispatched" else span.status


def _notes(trace: TraceView, axis: Axis) -> Iterator[Text]:
    """Why attempts did not complete, when a command is due, and which times are not on the axis."""
    for span in trace.spans:
        name = f"{span.phase} a{span.attempt}"
        if span.status == "dispatched" and span.due_at > trace.now:
            left = format_duration((span.due_at - trace.now).total_seconds())
            yield text(f"{name} is due at {span.due_at.astimezone():%H:%M:%S} (in {left})", style="yellow")
        reason = span.message or DEFAULT_REASON.get(span.status)
        if span.status not in AS_PLANNED and reason:
            worker = f" on {span.worker_id}" if span.worker_id else ""
            kind = f" ({span.failure})" if span.failure else ""
            yield text(f"{name} {span.status}{worker}{kind}: {reason}", style=COLOUR[span.status], lines=True)
    if axis.left_out >= 1:
        statuses = " or ".join(sorted({stand.status for stand in trace.standstills}))
        length = format_duration(axis.left_out)
        yield text(f"left out of the axis: {length} in which the task was {statuses}", style="yellow")


def _time(seconds: float) -> str:
    return f"{seconds:.1f}s" if seconds < SECONDS_UP_TO else format_duration(seconds)
