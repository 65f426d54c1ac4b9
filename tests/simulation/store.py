"""One control process's connection to the database: away at times, and not always heard when it answers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from inspect import iscoroutinefunction
from typing import Any

from contracts.tasks import Phase
from control.store.port import Store, StoreUnavailable
from tests.memory_store import MemoryStore
from tests.simulation.checks import Checks
from tests.simulation.process import Process
from tests.simulation.world import World

REFUSED, UNHEARD = 0.003, 0.003
"""Shares of calls that are not carried out, and of those that are while their answer is lost."""
LATENCY = 0.002
CALLS = [name for name, call in vars(Store).items() if iscoroutinefunction(call) and name != "close"]
POINTS = {"apply": "after-commit-before-publish", "lease": "after-lease-before-reply"}


class SimulatedStore(MemoryStore):
    """The in-memory store over a network; stores upon the same tables are processes at the same database."""

    def __init__(self, world: World, process: Process, checks: Checks, ttl_of: Callable[[Phase], float]) -> None:
        super().__init__(ttl_of, world.now, world.tables)
        self.world = world
        self.process = process
        self.checks = checks
        process.at_death.append(self._step_down)

    async def reach(self, call: str) -> None:
        """The way there. Raises StoreUnavailable."""
        await asyncio.sleep(self.world.chance.uniform(0, LATENCY))
        if call == "apply":
            await self.world.point("before-commit", self.process)
        if "store" in self.world.away:
            raise StoreUnavailable("the database is away")
        if self.world.happens(REFUSED):
            self.world.fault(f"store refused {call}")
            raise StoreUnavailable("the connection was refused")

    async def answer(self, call: str) -> None:
        """The way back. Raises StoreUnavailable though the transaction was made."""
        if call in POINTS:
            await self.world.point(POINTS[call], self.process)
        if self.world.happens(UNHEARD):
            self.world.fault(f"store unheard {call}")
            raise StoreUnavailable("the connection was lost before the answer")

    def _step_down(self) -> None:
        """What PostgreSQL does about the advisory locks of a connection that is gone."""
        leaders = self.tables.leaders
        for role in [role for role, leader in leaders.items() if leader is self]:
            del leaders[role]


def _over_the_network(name: str) -> Callable[..., Awaitable[Any]]:
    real = getattr(MemoryStore, name)

    async def call(self: SimulatedStore, *arguments: Any, **named: Any) -> Any:
        await self.reach(name)
        answer = await real(self, *arguments, **named)
        self.checks.saw(name, arguments, answer)
        await self.answer(name)
        return answer

    return call


for _name in CALLS:
    setattr(SimulatedStore, _name, _over_the_network(_name))
