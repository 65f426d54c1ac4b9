"""Work that is done over and over, and outlives the outages that it meets."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod

import structlog

from contracts.errors import TreadleError
from control.supervision import Supervised

log = structlog.get_logger(__name__)


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
