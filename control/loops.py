"""The background loops of control; a loop that fails is logged and started again."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Awaitable, Callable

import structlog

from contracts.errors import TreadleError
from infra.asyncio_tasks import cancel_and_wait, was_cancelled

MAX_FAILURES, FAILURE_WINDOW = 3, 60.0
"""A loop that failed MAX_FAILURES times within FAILURE_WINDOW seconds makes control unready."""
FIRST_RESTART_DELAY, MAX_RESTART_DELAY = 0.2, 10.0
"""Seconds before a restart. It doubles with each failure, until the loop has worked for FAILURE_WINDOW seconds."""

log = structlog.get_logger(__name__)


class Supervised:
    """Runs `work`, which should never return, until `stop`; starts it again if it fails or returns."""

    def __init__(self, name: str, work: Callable[[], Awaitable[None]]) -> None:
        self.name = name
        self._work = work
        self._task: asyncio.Task[None] | None = None
        self._pause = FIRST_RESTART_DELAY
        self._failures: deque[float] = deque(maxlen=MAX_FAILURES)

    def start(self) -> None:
        """Start the loop."""
        self._task = asyncio.create_task(self._run(), name=self.name)

    async def stop(self) -> None:
        """Cancel the loop and wait for its end."""
        if self._task is not None:
            await cancel_and_wait(self._task)

    @property
    def failing(self) -> bool:
        """Whether the loop failed MAX_FAILURES times within the last FAILURE_WINDOW seconds."""
        return len(self._failures) == MAX_FAILURES and _now() - self._failures[0] < FAILURE_WINDOW

    async def _run(self) -> None:
        while True:
            started = _now()
            try:
                await self._work()
                log.error("loop_ended", loop=self.name)
            except asyncio.CancelledError:
                if was_cancelled():
                    raise
                log.exception("loop_failed", loop=self.name)
            except Exception:  # the outermost boundary: the loop is started again after any error
                log.exception("loop_failed", loop=self.name)
            self._failures.append(_now())
            if _now() - started > FAILURE_WINDOW:
                self._pause = FIRST_RESTART_DELAY
            await asyncio.sleep(self._pause)
            self._pause = min(MAX_RESTART_DELAY, 2 * self._pause)


class Periodic(ABC):
    """Calls `tick`, with `seconds` between two calls; a TreadleError is logged and does not stop the loop."""

    def __init__(self, name: str, seconds: float) -> None:
        self.name = name
        self.tasks: tuple[Supervised, ...] = (Supervised(name, self._run),)
        self._seconds = seconds

    @abstractmethod
    async def tick(self) -> None:
        """Do the periodic work once."""

    def start(self) -> None:
        """Start the loops."""
        for task in self.tasks:
            task.start()

    async def stop(self) -> None:
        """Cancel the loops and wait for their end."""
        for task in self.tasks:
            await task.stop()

    async def _run(self) -> None:
        while True:
            try:
                await self.tick()
            except TreadleError as error:
                log.warning("tick_failed", of=self.name, error=str(error))
            await asyncio.sleep(self._seconds)


def _now() -> float:
    return asyncio.get_running_loop().time()
