"""The background loops of control: supervised, so that a loop that breaks is logged and started again."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Awaitable, Callable

import structlog

from contracts.errors import TreadleError
from infra.tasks import end, was_cancelled

TOO_MANY, WINDOW = 3, 60.0
"""A task that broke so often within so many seconds makes control unready."""
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 10.0

log = structlog.get_logger(__name__)


class Supervised:
    """Runs `work`, which never returns by itself, until `stop`."""

    def __init__(self, name: str, work: Callable[[], Awaitable[None]]) -> None:
        self.name = name
        self._work = work
        self._task: asyncio.Task[None] | None = None
        self._pause = FIRST_PAUSE
        self._breaks: deque[float] = deque(maxlen=TOO_MANY)

    def start(self) -> None:
        """Begin."""
        self._task = asyncio.create_task(self._run(), name=self.name)

    async def stop(self) -> None:
        """End it, at once."""
        if self._task is not None:
            await end(self._task)

    @property
    def failing(self) -> bool:
        """Whether it broke TOO_MANY times within the last WINDOW seconds."""
        return len(self._breaks) == TOO_MANY and _now() - self._breaks[0] < WINDOW

    async def _run(self) -> None:
        while True:
            began = _now()
            try:
                await self._work()
                log.error("loop_ended", loop=self.name)
            except asyncio.CancelledError:
                if was_cancelled():
                    raise
                log.exception("loop_broke", loop=self.name)
            except Exception:  # the boundary: whatever broke it, it is started again
                log.exception("loop_broke", loop=self.name)
            self._breaks.append(_now())
            self._pause = FIRST_PAUSE if _now() - began > WINDOW else min(LONGEST_PAUSE, 2 * self._pause)
            await asyncio.sleep(self._pause)


class Periodic(ABC):
    """Calls `tick` every `seconds`; a part that is away is logged, and asked again at the next tick."""

    def __init__(self, name: str, seconds: float) -> None:
        self.name = name
        self.tasks: tuple[Supervised, ...] = (Supervised(name, self._run),)
        self._seconds = seconds

    @abstractmethod
    async def tick(self) -> None:
        """Do it once."""

    def start(self) -> None:
        """Begin."""
        for task in self.tasks:
            task.start()

    async def stop(self) -> None:
        """End, at once."""
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
