"""A program as a coroutine of the worker's own process: thousands of attempts without as many children."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from infra.child.outcome import Ended, Failure, Outcome
from infra.child.process import Child, Children, Step
from infra.errors import PhaseError
from infra.objects import ObjectStore
from infra.worker.host import WorkerHost
from infra.worker.job import Jobs

Main = Callable[[Path], Awaitable[None]]
"""Given the job's folder: writes `out/` and `result.json`. Raises PhaseError; cancelled when it is to stop."""


class Coroutine:
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


class SomeChildren(Children):
    """Gives a coroutine for a module that is known as one, else a real child."""

    coroutines: dict[str, Main]

    async def take(self, module: str) -> Child | Coroutine:
        """A coroutine or a child."""
        return Coroutine(self.coroutines[module]) if module in self.coroutines else await super().take(module)

    async def warm(self, module: str) -> None:
        """A child that has its imports done; a coroutine needs none."""
        if module not in self.coroutines:
            await super().warm(module)


def host_with(coroutines: dict[str, Main], *arguments: object) -> WorkerHost:
    """The real host, whose jobs are real in all but that some programs run beside it."""

    class Host(WorkerHost):
        def _jobs_of(self, worker: object, objects: ObjectStore) -> Jobs:
            children = SomeChildren(self._folder.path, self._settings.stop_grace, warm=self._settings.warm_children)
            children.coroutines = coroutines
            return Jobs(worker, objects, self._folder, children, self.worker_id)

    return Host(*arguments)
