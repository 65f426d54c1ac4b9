"""The time axis of a trace: seconds since the iteration began, without the times in which the task stood."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from datetime import datetime

from cli.durations import format_duration
from contracts.traces import PhaseSpan, TraceView
from control.store.values import Standstill
from control.telemetry.work import wall_seconds

STEPS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 14_400, 21_600, 43_200)
"""Seconds between two marks; beyond them, whole days."""
DAY = 86_400
MARK_WIDTH = 8
"""Columns from one mark to the next, at least."""


class Axis:
    """Where moments lie between the begin and the end of an iteration; the end is now while it is in progress."""

    def __init__(self, trace: TraceView) -> None:
        self.begin = trace.began_at
        self.end = max(trace.began_at, trace.ended_at or trace.now)
        self._standstills = [Standstill(each.status, each.began_at, each.ended_at) for each in trace.standstills]
        self._runs = [
            (span.started_at, span.completed_at or self.end) for span in trace.spans if span.started_at is not None
        ]
        self.seconds = self.at(self.end)

    def at(self, moment: datetime) -> float:
        """Seconds on this axis from its begin to the moment, which is limited to the axis."""
        moment = min(max(moment, self.begin), self.end)
        return wall_seconds(self.begin, moment, self._standstills, self._runs)

    @property
    def left_out(self) -> float:
        """Seconds in which the task stood, which are not on the axis."""
        return (self.end - self.begin).total_seconds() - self.seconds

    def cells(self, begin: float, end: float, width: int) -> range:
        """The columns of a span of seconds in a bar of `width` columns; at least one."""
        scale = width / self.seconds if self.seconds > 0 else 0.0
        first = min(width - 1, int(begin * scale))
        return range(first, max(first + 1, min(width, round(end * scale))))

    def marks(self, width: int) -> str:
        """The line above the bars: the time at regular distances, e.g. `0s      10s     20s`."""
        step = next((step for step in self._steps() if step * width >= MARK_WIDTH * self.seconds), self.seconds or 1.0)
        line = ""
        for number in range(math.floor(self.seconds / step) + 1):
            place, label = self.cells(number * step, number * step, width).start, _label(number * step)
            if place + len(label) <= width:
                line = f"{line:<{place}}{label}"
        return line

    def _steps(self) -> Sequence[float]:
        days = math.ceil(self.seconds / DAY)
        return (*STEPS, *(DAY * number for number in range(1, days + 1)))


class AttemptTimes:
    """The times of one attempt in seconds on an axis; `work` is None if it is unknown."""

    def __init__(self, span: PhaseSpan, axis: Axis) -> None:
        started, ended = span.started_at, span.completed_at or axis.end
        self.due = axis.at(min(span.due_at, started or ended, ended))
        self.claimed = axis.at(started or ended)
        self.ended = axis.at(ended)
        self.work = span.work_seconds
        self.ran = started is not None

    @property
    def wait(self) -> float:
        """Seconds in the queue."""
        return self.claimed - self.due

    @property
    def run(self) -> float:
        """Seconds from its claim to its end, or to now."""
        return self.ended - self.claimed


def _label(seconds: float) -> str:
    """The time of a mark, such as `0s`, `0.5s` or `2m`."""
    exact = format_duration(seconds) if seconds >= 1 or seconds == 0 else f"{seconds:.1f}s"
    return re.sub("(?<=[dhm])0[hms]$", "", exact)
