"""A simulated operating-system process, which can be frozen, resumed and killed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextvars import Context, ContextVar
from typing import Any, TypeVar

T = TypeVar("T")


class Process:
    """One process of a service; everything that is scheduled from its context stops when the process is killed."""

    def __init__(self, name: str, *, may_crash: bool = True) -> None:
        self.name = name
        self.may_crash = may_crash
        self.alive = True
        self.on_exit: list[Callable[[], None]] = []
        """What the outside does when the process ends: close its connections, release its locks."""
        self._context = Context()
        self._context.run(PROCESS.set, self)
        self._frozen = False
        self._deferred: list[asyncio.Handle] = []
        self._tasks: list[asyncio.Task[Any]] = []

    def spawn(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Run `work` within this process."""
        return asyncio.get_running_loop().create_task(work, context=self._context.copy())

    def adopt(self, task: asyncio.Task[Any]) -> None:
        """Register a task of this process, which ends with it."""
        self._tasks.append(task)
        if len(self._tasks) > 256 and sum(task.done() for task in self._tasks) > len(self._tasks) // 2:
            self._tasks = [task for task in self._tasks if not task.done()]

    def may_run(self, handle: asyncio.Handle) -> bool:
        """Whether a callback of this process may run now; a callback of a frozen process is deferred until the thaw."""
        if self.alive and self._frozen:
            self._deferred.append(handle)
        return self.alive and not self._frozen

    def freeze(self) -> None:
        """SIGSTOP: the process does not run, but time passes."""
        self._frozen = True

    def thaw(self) -> None:
        """SIGCONT: run the deferred callbacks."""
        self._frozen = False
        deferred, self._deferred = self._deferred, []
        asyncio.get_running_loop()._ready.extend(deferred)  # type: ignore[attr-defined]

    def kill(self) -> None:
        """SIGKILL: no callback of the process runs any more."""
        if not self.alive:
            return
        self.alive = False
        for callback in self.on_exit:
            callback()
        asyncio.get_running_loop().call_soon(self._end_tasks, context=Context())

    async def crash(self) -> None:
        """Kill the process at this point; the awaited call never returns."""
        self.kill()
        await asyncio.get_running_loop().create_future()

    def _end_tasks(self) -> None:
        while self._tasks:
            task = self._tasks.pop()
            if not task.done():
                self._context.copy().run(_end, task)


PROCESS: ContextVar[Process | None] = ContextVar("process", default=None)


class Killed(BaseException):
    """Thrown into the coroutines of a killed process, which would otherwise be finalised at an arbitrary time."""


def _end(task: asyncio.Task[Any]) -> None:
    """End a coroutine of a killed process; what it does in `finally` has no effect, and each await in it fails too."""
    task._log_destroy_pending = False  # type: ignore[attr-defined]
    work = task.get_coro()
    try:
        while True:
            work.throw(Killed())
    except (Killed, StopIteration):
        return
