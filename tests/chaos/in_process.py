"""Programs as coroutines in the process of the worker: thousands of attempts without as many child processes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

from infra.child.fork_server.client import ForkServer
from infra.child.outcome import ExitKind, Failure, ProgramExit
from infra.child.pool import ChildPool
from infra.child.process import NO_VARIABLES, ChildProcess
from infra.child.progress import ProgressLine
from infra.errors import PhaseError
from infra.objects import ObjectStore
from infra.worker.host import WorkerHost
from infra.worker.job import JobRunner

Main = Callable[[Path], Awaitable[None]]
"""Writes `out/` and `result.json` in the given folder of a job. Raises PhaseError; a stop cancels it."""


class Coroutine:
    """One job whose program is a coroutine, with the interface of `ChildProcess`."""

    alive = False

    def __init__(self, main: Main) -> None:
        self._main = main
        self._task: asyncio.Future[None] | None = None
        self._stopping = False

    async def run(self, folder: Path, on_step: Callable[[ProgressLine], None]) -> ProgramExit:
        """Run the job in `folder` to its end; a cancellation also cancels the program."""
        started = time.monotonic()
        outcome, failure = ExitKind.SUCCEEDED, None
        (folder / "out").mkdir(exist_ok=True)
        self._task = asyncio.ensure_future(self._main(folder))
        try:
            await self._task
        except PhaseError as error:
            outcome = ExitKind.FAILED
            failure = Failure(failure=error.kind, message=str(error), field=error.field)
        except asyncio.CancelledError:
            if not self._stopping:
                raise
            outcome = ExitKind.STOPPED
        return ProgramExit(outcome, time.monotonic() - started, 0, failure)

    def transferred(self) -> int:
        """No bytes are counted."""
        return 0

    async def stop(self) -> None:
        """Cancel the program and wait for its end."""
        self._stopping = True
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})


class MixedChildPool(ChildPool):
    """Runs the modules in `coroutines` as coroutines, all others as child processes."""

    coroutines: dict[str, Main]

    async def start(self, module: str, variables: Mapping[str, str] = NO_VARIABLES) -> ChildProcess | Coroutine:
        """A coroutine or a child process for one job."""
        if module in self.coroutines:
            return Coroutine(self.coroutines[module])
        return await super().start(module, variables)


def host_with(coroutines: dict[str, Main], *arguments: object) -> WorkerHost:
    """A real worker host, except that the programs in `coroutines` run in its own process."""

    class Host(WorkerHost):
        def _jobs_of(self, worker: object, objects: ObjectStore, fork_server: ForkServer | None) -> JobRunner:
            children = MixedChildPool(self._folder.path, self._settings.stop_grace, fork_server)
            children.coroutines = coroutines
            return JobRunner(worker, objects, self._folder, children, self.worker_id)

    return Host(*arguments)
