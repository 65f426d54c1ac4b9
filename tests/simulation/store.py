"""The connection of one control process to the database: calls may fail, also after the transaction was made."""

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

REFUSED, ANSWER_LOST = 0.003, 0.003
"""Shares of calls that are refused, and of calls that are made while their answer is lost."""
LATENCY = 0.002
"""Maximum seconds of a call."""
CALLS = [name for name, call in vars(Store).items() if iscoroutinefunction(call) and name != "close"]
CRASH_POINTS = {"apply": "after-commit-before-publish", "lease": "after-lease-before-reply"}


class SimulatedStore(MemoryStore):
    """The in-memory store over a network; stores with the same tables are processes with the same database."""

    def __init__(self, world: World, process: Process, checks: Checks, ttl_of: Callable[[Phase], float]) -> None:
        super().__init__(ttl_of, world.now, world.tables)
        self.world = world
        self.process = process
        self.checks = checks
        process.on_exit.append(self._release_roles)

    async def before_call(self, call: str) -> None:
        """Send the call. Raises StoreUnavailable if it does not reach the database."""
        await asyncio.sleep(self.world.rng.uniform(0, LATENCY))
        if call == "apply":
            await self.world.crash_point("before-commit", self.process)
        if "store" in self.world.unavailable:
            raise StoreUnavailable("the database is away")
        if self.world.happens(REFUSED):
            self.world.fault(f"store refused {call}")
            raise StoreUnavailable("the connection was refused")

    async def after_call(self, call: str) -> None:
        """Receive the answer. Raises StoreUnavailable if it is lost, although the transaction was made."""
        if call in CRASH_POINTS:
            await self.world.crash_point(CRASH_POINTS[call], self.process)
        if self.world.happens(ANSWER_LOST):
            self.world.fault(f"store answer lost {call}")
            raise StoreUnavailable("the connection was lost before the answer")

    def _release_roles(self) -> None:
        """Release the roles, as PostgreSQL releases the advisory locks of a lost connection."""
        leaders = self.tables.leaders
        for role in [role for role, leader in leaders.items() if leader is self]:
            del leaders[role]


def _simulated_call(name: str) -> Callable[..., Awaitable[Any]]:
    real = getattr(MemoryStore, name)

    async def call(self: SimulatedStore, *arguments: Any, **named: Any) -> Any:
        await self.before_call(name)
        answer = await real(self, *arguments, **named)
        self.checks.on_transaction(name, arguments, answer)
        await self.after_call(name)
        return answer

    return call


for _name in CALLS:
    setattr(SimulatedStore, _name, _simulated_call(_name))
