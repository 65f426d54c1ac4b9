"""Limits of one attempt in time: how long its work may take, and how long it may make no progress."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from contracts.commands import PhaseCommand
from contracts.tasks import FailureKind
from infra.child.progress import ProgressLine
from infra.errors import PhaseError

T = TypeVar("T")
ABANDON_AFTER = 5.0
"""Seconds after which a cancelled step that does not end, such as a download that hangs, is left behind."""

TRANSFER_STEP = 16 * 2**20
"""Bytes that a program must read and write within the stall limit; what it logs and reports is less."""


class TimedOut(PhaseError):
    """The attempt ran longer than its command allows; retried from its newest checkpoint."""

    kind = FailureKind.TIMED_OUT


class Stalled(PhaseError):
    """The attempt made no progress for longer than its command allows; retried from its newest checkpoint."""

    kind = FailureKind.STALLED


class Limits:
    """The clock of one attempt: it starts with the worker's first step, downloads included.

    Progress is a new stage, another number of done things in it, a block that the worker transfers, or TRANSFER_STEP
    bytes that the program reads and writes: a model that is downloaded or loaded takes long without a report.
    """

    def __init__(self, command: PhaseCommand) -> None:
        self._time_limit = command.time_limit
        self._stall_limit = command.stall_limit
        self._started = self._progressed = time.monotonic()
        self._last = ("preparing", 0)
        self._read_transferred: Callable[[], int] = lambda: 0
        self._transferred = 0
        self.exceeded: PhaseError | None = None
        """Set once a limit has ended the attempt."""

    def step(self, line: ProgressLine) -> None:
        """Record a line of progress; a repeated one counts as none."""
        if (line.stage, line.done) != self._last:
            self._last = (line.stage, line.done)
            self._transferred = self._read_transferred()
            self._progressed = time.monotonic()

    def watch(self, transferred: Callable[[], int]) -> None:
        """Count the bytes that the program reads and writes from now on; `transferred` returns all so far."""
        self._read_transferred = transferred
        self._transferred = transferred()

    def moved(self, _: int) -> None:
        """Record transferred bytes; may be called from any thread."""
        self._progressed = time.monotonic()

    async def wait(self) -> PhaseError:
        """Wait until a limit is exceeded, and return the error that ends the attempt."""
        while (error := self.error()) is None:  # noqa: ASYNC110  # progress moves the end, without an event
            await asyncio.sleep(self._remaining())
        self.exceeded = error
        return error

    def allow_ending(self) -> None:
        """From now on only the stall limit holds, counted anew, so that the checkpoint or the result can be saved."""
        self._time_limit = None
        self._progressed = time.monotonic()

    async def within(self, work: Coroutine[Any, Any, T]) -> T:
        """Await a step of the worker itself. Raises TimedOut or Stalled, after the step was cancelled."""
        working, waiting = asyncio.create_task(work), asyncio.create_task(self.wait())
        try:
            await asyncio.wait({working, waiting}, return_when=asyncio.FIRST_COMPLETED)
            if working.done():
                return working.result()
            await _abandon(working)
            raise waiting.result()
        finally:
            waiting.cancel()
            working.cancel()
            if not waiting.done():
                await asyncio.gather(working, return_exceptions=True)

    def error(self) -> PhaseError | None:
        """The limit that is exceeded now; None: none is."""
        now, place = time.monotonic(), "its last progress was: {} {}".format(*self._last)
        if self._time_limit is not None and now - self._started >= self._time_limit:
            return TimedOut(f"the attempt took longer than its limit of {self._time_limit:g} s; {place}")
        if self._stall_limit is not None and now - self._progressed >= self._stall_limit:
            if self._program_transfers():
                self._progressed = now
                return None
            return Stalled(f"the attempt made no progress for {self._stall_limit:g} s; {place}")
        return None

    def _program_transfers(self) -> bool:
        """Whether the program has read and written TRANSFER_STEP bytes since the last progress."""
        before, self._transferred = self._transferred, self._read_transferred()
        return self._transferred - before >= TRANSFER_STEP

    def _remaining(self) -> float:
        """Seconds until a limit may be exceeded."""
        now = time.monotonic()
        ends = [
            since + limit
            for since, limit in ((self._started, self._time_limit), (self._progressed, self._stall_limit))
            if limit is not None
        ]
        return max(0.01, min(ends) - now) if ends else 3600.0


async def _abandon(task: asyncio.Task[Any]) -> None:
    """Cancel a step that may hang, and give it a short time to end."""
    task.cancel()
    await asyncio.wait({task}, timeout=ABANDON_AFTER)
    task.add_done_callback(_retrieve)


def _retrieve(task: asyncio.Task[Any]) -> None:
    """Fetch the error of a step that was left behind; otherwise asyncio logs that it was never retrieved."""
    if not task.cancelled():
        task.exception()
