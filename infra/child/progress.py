"""The lines that a program prints for its worker: its progress, and when its work begins and ends."""

from __future__ import annotations

import time

from pydantic import BaseModel, TypeAdapter, ValidationError


class ProgressLine(BaseModel):
    """One line of progress that a program prints."""

    stage: str
    done: int
    total: int = 0
    eta_seconds: float | None = None
    accelerators: int = 0
    """Number of accelerators on which the program has allocated memory."""
    metrics: dict[str, float] = {}


class WorkLine(BaseModel):
    """Printed before the first line of the program's `main`, and after its end."""

    working: bool


_LINE: TypeAdapter[ProgressLine | WorkLine] = TypeAdapter(ProgressLine | WorkLine)


def parse_line(line: bytes) -> ProgressLine | WorkLine | None:
    """The content of a line; None if it is none of these."""
    try:
        return _LINE.validate_json(line)
    except ValidationError:
        return None


class WorkClock:
    """Measures how long a program worked, by the clock of the worker."""

    def __init__(self) -> None:
        self._since: float | None = None
        self.seconds = 0.0
        """Of the work that has ended."""

    def set(self, *, working: bool) -> None:
        """Take note that the work has begun or ended; a repeated line has no effect."""
        now = time.monotonic()
        if working and self._since is None:
            self._since = now
        elif not working and self._since is not None:
            self.seconds += now - self._since
            self._since = None
