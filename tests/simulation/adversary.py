"""Faults: processes are killed, frozen and restarted, connections are lost, servers are away, queues are purged."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from contracts.topology import CLAIMS_QUEUE, CONTROL_QUEUE, PHASE_QUEUES, SUBMISSIONS_QUEUE
from tests.simulation.services import Service
from tests.simulation.world import CRASH_POINTS, World

FAULT_INTERVAL = 1.5
"""Mean virtual seconds between two faults."""
PURGEABLE = (CONTROL_QUEUE, SUBMISSIONS_QUEUE, CLAIMS_QUEUE, *PHASE_QUEUES.values())


class Adversary:
    """Draws faults from the random generator of the world until it is stopped."""

    def __init__(self, world: World, services: Sequence[Service]) -> None:
        self._world = world
        self._services = services
        self._restarting: set[asyncio.Task[None]] = set()
        self._faults = (*[self._arm] * 8, self._kill, *[self._freeze] * 2, self._disconnect, *[self._outage] * 2)
        self._faults += (self._purge, self._restart)

    async def run(self) -> None:
        """Cause one fault after another."""
        while not self._world.faults_off:
            await asyncio.sleep(self._world.rng.expovariate(1 / FAULT_INTERVAL))
            if not self._world.faults_off:
                self._world.rng.choice(self._faults)()

    def stop(self) -> None:
        """End the faults and the outages; dead and frozen processes come back by themselves."""
        self._world.faults_off = True
        self._world.unavailable.clear()
        self._world.armed_points.clear()

    def _arm(self) -> None:
        self._world.armed_points.add(self._world.rng.choice(CRASH_POINTS))

    def _kill(self) -> None:
        if service := self._victim("killed"):
            service.process.kill()

    def _freeze(self) -> None:
        if service := self._victim("frozen"):
            service.freeze(self._world.rng.uniform(0.5, 25), dropped=self._world.rng.random() < 0.5)

    def _disconnect(self) -> None:
        if service := self._victim("disconnected"):
            service.process.spawn(service.bus.disconnect(self._world.rng.uniform(0.1, 5)))

    def _restart(self) -> None:
        if service := self._victim("restarted"):
            task = asyncio.get_running_loop().create_task(service.restart())
            self._restarting.add(task)
            task.add_done_callback(self._restarting.discard)

    def _outage(self) -> None:
        part = self._world.rng.choice(("store", "objects", "disk"))
        self._world.fault(f"{part} away")
        self._world.unavailable.add(part)
        self._world.later(self._world.rng.uniform(0.1, 10), self._world.unavailable.discard, part)

    def _purge(self) -> None:
        queue = self._world.rng.choice(PURGEABLE).name
        self._world.fault(f"{queue} purged")
        self._world.broker.queue(queue).purge()

    def _victim(self, fate: str) -> Service | None:
        running = [service for service in self._services if service.running]
        if not running:
            return None
        service = self._world.rng.choice(running)
        self._world.fault(f"{service.name} {fate}")
        return service
