"""What goes wrong: processes die, freeze and are restarted, connections break, servers are away, queues are purged."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from contracts.topology import CLAIMS_QUEUE, CONTROL_QUEUE, PHASE_QUEUES, SUBMISSIONS_QUEUE
from tests.simulation.services import Service
from tests.simulation.world import POINTS, World

PACE = 1.5
"""Mean virtual seconds between two faults."""
PURGEABLE = (CONTROL_QUEUE, SUBMISSIONS_QUEUE, CLAIMS_QUEUE, *PHASE_QUEUES.values())


class Adversary:
    """Draws faults from the world's chance until all is calm."""

    def __init__(self, world: World, services: Sequence[Service]) -> None:
        self._world = world
        self._services = services
        self._restarting: set[asyncio.Task[None]] = set()
        self._faults = (*[self._arm] * 8, self._kill, *[self._freeze] * 2, self._blink, *[self._outage] * 2)
        self._faults += (self._purge, self._restart)

    async def rage(self) -> None:
        """Do one thing after another."""
        while not self._world.calm:
            await asyncio.sleep(self._world.chance.expovariate(1 / PACE))
            if not self._world.calm:
                self._world.chance.choice(self._faults)()

    def relent(self) -> None:
        """Mend what can be mended; what is dead or frozen comes back by itself."""
        self._world.calm = True
        self._world.away.clear()
        self._world.armed.clear()

    def _arm(self) -> None:
        self._world.armed.add(self._world.chance.choice(POINTS))

    def _kill(self) -> None:
        if service := self._victim("killed"):
            service.process.kill()

    def _freeze(self) -> None:
        if service := self._victim("frozen"):
            service.freeze(self._world.chance.uniform(0.5, 25), dropped=self._world.chance.random() < 0.5)

    def _blink(self) -> None:
        if service := self._victim("disconnected"):
            service.process.spawn(service.bus.blink(self._world.chance.uniform(0.1, 5)))

    def _restart(self) -> None:
        if service := self._victim("restarted"):
            task = asyncio.get_running_loop().create_task(service.restart())
            self._restarting.add(task)
            task.add_done_callback(self._restarting.discard)

    def _outage(self) -> None:
        part = self._world.chance.choice(("store", "objects", "disk"))
        self._world.fault(f"{part} away")
        self._world.away.add(part)
        self._world.later(self._world.chance.uniform(0.1, 10), self._world.away.discard, part)

    def _purge(self) -> None:
        queue = self._world.chance.choice(PURGEABLE).name
        self._world.fault(f"{queue} purged")
        self._world.broker.queue(queue).purge()

    def _victim(self, fate: str) -> Service | None:
        there = [service for service in self._services if service.running]
        if not there:
            return None
        service = self._world.chance.choice(there)
        self._world.fault(f"{service.name} {fate}")
        return service
