"""A simulated operating-system process: it may be frozen and go on, and it dies at once, without a last word."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextvars import Context, ContextVar
from typing import Any, TypeVar

T = TypeVar("T")


class Process:
    """One life of a service. Whatever is scheduled from its context is its own, and shares its fate."""

    def __init__(self, name: str, *, mortal: bool = True) -> None:
        self.name = name
        self.mortal = mortal
        self.alive = True
        self.at_death: list[Callable[[], None]] = []
        """What the world notices: connections end, locks are let go."""
        self._context = Context()
        self._context.run(PROCESS.set, self)
        self._frozen = False
        self._held: list[asyncio.Handle] = []
        self._tasks: list[asyncio.Task[Any]] = []

    def spawn(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Run `work` within this process."""
        return asyncio.get_running_loop().create_task(work, context=self._context.copy())

    def adopt(self, task: asyncio.Task[Any]) -> None:
        """A task of this process, to be ended with it."""
        self._tasks.append(task)
        if len(self._tasks) > 256 and sum(task.done() for task in self._tasks) > len(self._tasks) // 2:
            self._tasks = [task for task in self._tasks if not task.done()]

    def admits(self, handle: asyncio.Handle) -> bool:
        """Whether a callback of this process may run now; that of a frozen one waits for its thaw."""
        if self.alive and self._frozen:
            self._held.append(handle)
        return self.alive and not self._frozen

    def freeze(self) -> None:
        """SIGSTOP: the world goes on without it."""
        self._frozen = True

    def thaw(self) -> None:
        """SIGCONT: it goes on as if no time had passed."""
        self._frozen = False
        held, self._held = self._held, []
        asyncio.get_running_loop()._ready.extend(held)  # type: ignore[attr-defined]

    def kill(self) -> None:
        """SIGKILL: nothing of it runs any more, and nothing that it was about to do is done."""
        if not self.alive:
            return
        self.alive = False
        for notice in self.at_death:
            notice()
        asyncio.get_running_loop().call_soon(self._bury, context=Context())

    async def crash(self) -> None:
        """Die here: whoever awaits this never hears an answer."""
        self.kill()
        await asyncio.get_running_loop().create_future()

    def _bury(self) -> None:
        while self._tasks:
            task = self._tasks.pop()
            if not task.done():
                self._context.copy().run(_end, task)


PROCESS: ContextVar[Process | None] = ContextVar("process", default=None)


class Killed(BaseException):
    """Thrown into the coroutines of a dead process, which would be finalised at some odd time otherwise."""


def _end(task: asyncio.Task[Any]) -> None:
    """Drop a coroutine. What it does on its way out (in `finally`) reaches nobody, and it awaits nothing any more."""
    task._log_destroy_pending = False  # type: ignore[attr-defined]
    work = task.get_coro()
    try:
        while True:
            work.throw(Killed())
    except (Killed, StopIteration):
        return
