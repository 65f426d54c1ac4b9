"""A program as a coroutine of the worker's own process, where a child for each attempt would be too dear.

For tests and measurements of everything around the program: here a program's fault is the worker's, and its memory too.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from infra.child import Step
from infra.child_outcome import Ended, Failure, Outcome
from infra.errors import PhaseError

Main = Callable[[Path], Awaitable[None]]
"""Given the job's folder: reads what is laid there, writes `out/` and `result.json`; raises PhaseError. Cancelled
when it is to stop."""


class InProcess:
    """One job of such a program; what a `Child` is to a child process."""

    def __init__(self, main: Main) -> None:
        self._main = main
        self._working: asyncio.Future[None] | None = None
        self._stopping = False

    async def run(self, folder: Path, on_step: Callable[[Step], None]) -> Ended:
        """Run the job in `folder` to its end. Cancelled, it cancels the program."""
        started = time.monotonic()
        outcome, failure = Outcome.SUCCEEDED, None
        (folder / "out").mkdir(exist_ok=True)
        self._working = asyncio.ensure_future(self._main(folder))
        try:
            await self._working
        except PhaseError as error:
            outcome = Outcome.FAILED
            failure = Failure(failure=error.kind, message=str(error), field=error.field)
        except asyncio.CancelledError:
            if not self._stopping:
                raise
            outcome = Outcome.STOPPED
        return Ended(outcome, time.monotonic() - started, 0, failure)

    async def stop(self) -> None:
        """Cancel the program, and wait until it is gone."""
        self._stopping = True
        if self._working is not None:
            self._working.cancel()
            await asyncio.wait({self._working})
