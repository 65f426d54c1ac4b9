"""Something done over and over, that outlives the outages it meets."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod

import structlog

from contracts.errors import TreadleError
from infra.ending import end

log = structlog.get_logger(__name__)


class Periodic(ABC):
    """Calls `tick` every `seconds`; what goes wrong in one tick is logged and tried again in the next."""

    def __init__(self, name: str, seconds: float) -> None:
        self.name = name
        self._seconds = seconds
        self._loop: asyncio.Task[None] | None = None

    @abstractmethod
    async def tick(self) -> None:
        """Do it once."""

    def start(self) -> None:
        """Begin."""
        self._loop = asyncio.create_task(self._run(), name=self.name)

    async def stop(self) -> None:
        """End, at once."""
        if self._loop is not None:
            await end(self._loop)

    async def _run(self) -> None:
        while True:
            try:
                await self.tick()
            except TreadleError as error:
                log.warning("tick_failed", of=self.name, error=str(error))
            except Exception:  # a loop that ends in silence is worse than one that fails aloud at every tick
                log.exception("tick_broke", of=self.name)
            await asyncio.sleep(self._seconds)
