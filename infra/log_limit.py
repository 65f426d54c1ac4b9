"""Limits how many lines of one kind are logged, so that a flood of messages does not fill the disk."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass

LINES, PERIOD = 10, 60.0
"""Maximum lines of one kind in one period, and the length of a period in seconds."""
MAX_KINDS = 1000
"""Kinds that are counted; above this number the counts begin anew."""


@dataclass(slots=True)
class _Window:
    began: float
    logged: int = 0
    skipped: int = 0


class LogLimit:
    """Counts the lines of each kind."""

    def __init__(self, lines: int = LINES, period: float = PERIOD, clock: Callable[[], float] = time.monotonic) -> None:
        self._lines = lines
        self._period = period
        self._clock = clock
        self._windows: dict[Hashable, _Window] = {}

    def skipped(self, kind: Hashable) -> int | None:
        """The number of lines left out before this one, if it may be logged; None: it must be left out."""
        if len(self._windows) >= MAX_KINDS:
            self._windows.clear()
        now = self._clock()
        window = self._windows.setdefault(kind, _Window(now))
        before = 0
        if now - window.began >= self._period:
            before = window.skipped
            window = self._windows[kind] = _Window(now)
        if window.logged == self._lines:
            window.skipped += 1
            return None
        window.logged += 1
        return before
