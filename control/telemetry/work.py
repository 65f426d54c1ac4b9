"""The definition of work, wall clock and overhead. Pure.

The work of an attempt is the time from the first line of its program's `main` to its end, as the attempt reported it.
The wall clock of a task is the time in which it should have worked: from the first due command to the end of its newest
ended attempt, without the times in which the task was SUSPENDED or FAILED; an attempt that ran on in a pause counts.
The rest is overhead: imports, transfers, waiting, backoff, and attempts that ended without a report.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from control.store.values import AttemptClock, AttemptRecord, Standstill

Span = tuple[datetime, datetime]
"""A begin and an end."""


@dataclass(frozen=True, slots=True)
class WorkShare:
    """Seconds of work and of the wall clock; `unreported` seconds ran in attempts whose work is unknown."""

    work: float
    wall: float
    overhead: float
    unreported: float


def work_share(attempts: Sequence[AttemptClock], standstills: Sequence[Standstill]) -> WorkShare | None:
    """The share of work until the end of the newest ended attempt; None before an attempt has reported its work.

    A running attempt counts only when it has ended, because its work is unknown until then.
    """
    if all(attempt.work_seconds is None for attempt in attempts):
        return None
    begin = min(map(_began_at, attempts))
    end = max(attempt.ended_at for attempt in attempts)
    wall = wall_seconds(begin, end, standstills, map(_run, attempts))
    work = min(wall, sum(min(attempt.work_seconds or 0.0, _seconds(*_run(attempt))) for attempt in attempts))
    share = overhead(wall, work)
    unreported = sum(_seconds(*_run(attempt)) for attempt in attempts if attempt.work_seconds is None)
    return None if share is None else WorkShare(work, wall, share, unreported)


def overhead(wall: float, work: float) -> float | None:
    """The share of `wall` seconds that was no work, 0 to 1; None if no time has passed."""
    return min(1.0, max(0.0, 1 - work / wall)) if wall > 0 else None


def wall_seconds(begin: datetime, end: datetime, standstills: Iterable[Standstill], runs: Iterable[Span]) -> float:
    """Seconds from `begin` to `end` without the standstills, except for the parts of them in which an attempt ran."""
    ran = list(_clipped(runs, begin, end))
    stood = list(_clipped(((stand.began_at, stand.ended_at or end) for stand in standstills), begin, end))
    return _seconds(begin, end) - (_covered(stood + ran) - _covered(ran))


def clock_of(attempt: AttemptRecord) -> AttemptClock | None:
    """The times of an attempt; None if it has not ended."""
    if attempt.ended_at is None:
        return None
    return AttemptClock(attempt.due_at, attempt.claimed_at, attempt.ended_at, reported_work(attempt))


def reported_work(attempt: AttemptRecord) -> float | None:
    """The seconds of work in the event that ended the attempt; None if that is not a report of its worker."""
    work = (attempt.event or {}).get("work_seconds")
    return None if work is None else float(work)


def _began_at(attempt: AttemptClock) -> datetime:
    """When the command was due; a resume may set that to a time after the claim."""
    return min(attempt.due_at, attempt.claimed_at or attempt.due_at)


def _run(attempt: AttemptClock) -> Span:
    """The time in which the attempt ran; empty if no worker claimed it."""
    return attempt.claimed_at or attempt.ended_at, attempt.ended_at


def _clipped(spans: Iterable[Span], begin: datetime, end: datetime) -> Iterable[Span]:
    return ((max(begin, first), min(end, last)) for first, last in spans if first < end and last > begin)


def _covered(spans: Iterable[Span]) -> float:
    """Seconds that at least one of the spans covers."""
    covered, until = 0.0, None
    for first, last in sorted(spans):
        covered += _seconds(first if until is None else max(first, until), last)
        until = last if until is None else max(until, last)
    return covered


def _seconds(begin: datetime, end: datetime) -> float:
    return max(0.0, (end - begin).total_seconds())
