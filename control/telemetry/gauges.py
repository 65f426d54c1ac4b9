"""Prometheus gauges: what the store and the broker say at the scrape, the same in every control process."""

from __future__ import annotations

import asyncio
from collections import Counter as Tally

from prometheus_client import CollectorRegistry, Gauge, generate_latest

from contracts.tasks import Phase, TaskStatus
from contracts.topology import DEAD_QUEUE
from control.store.port import Store, StoreUnavailable
from infra.bus.port import Bus, BusUnavailable

WORKER_WINDOW = 60.0
"""Seconds of silence after which a worker's slots no longer count."""
PATIENCE = 2.0
"""Seconds that a scrape waits for the broker."""


class Gauges:
    """How things stand: tasks, outbox, leases, slots and dead letters."""

    def __init__(self, registry: CollectorRegistry, store: Store, bus: Bus) -> None:
        self._registry = registry
        self._store = store
        self._bus = bus
        self._tasks = Gauge("treadle_tasks", "Tasks by status.", ["status"], registry=registry)
        self._outbox = Gauge("treadle_outbox_pending", "Messages decided and not confirmed.", registry=registry)
        self._oldest = Gauge("treadle_outbox_oldest_age_seconds", "Age of the oldest due one.", registry=registry)
        self._slots = Gauge("treadle_worker_slots", "Slots of live workers.", ["phase", "state"], registry=registry)
        self._silence = Gauge(
            "treadle_heartbeat_age_seconds",
            "Age of the last heartbeat of the running attempt that was silent longest.",
            ["phase"],
            registry=registry,
        )
        self._dead = Gauge("treadle_dead_letters", "Messages that could not be handled.", registry=registry)
        self._store_up = Gauge("treadle_store_up", "1 where the database answered this scrape.", registry=registry)
        self._bus_up = Gauge("treadle_bus_up", "1 where the broker answered this scrape.", registry=registry)

    async def scrape(self) -> bytes:
        """The whole registry in Prometheus text format, its gauges read just now."""
        await asyncio.gather(self._ask_store(), self._ask_bus())
        return generate_latest(self._registry)

    async def _ask_store(self) -> None:
        try:
            await self._read()
            self._store_up.set(1)
        except StoreUnavailable:
            self._store_up.set(0)

    async def _ask_bus(self) -> None:
        try:
            async with asyncio.timeout(PATIENCE):
                self._dead.set(await self._bus.depth(DEAD_QUEUE.name))
            self._bus_up.set(1)
        except (BusUnavailable, TimeoutError):
            self._bus_up.set(0)

    async def _read(self) -> None:
        counts = await self._store.counts()
        for status in TaskStatus:
            self._tasks.labels(status).set(counts.get(status, 0))
        depth, oldest = await self._store.outbox_depth()
        self._outbox.set(depth)
        self._oldest.set(oldest)
        silence = await self._store.silence()
        for phase in Phase:
            self._silence.labels(phase).set(silence.get(phase, 0.0))
        await self._count_slots()

    async def _count_slots(self) -> None:
        slots: Tally[tuple[str, str]] = Tally()
        for worker in await self._store.workers(WORKER_WINDOW):
            slots[worker.phase, "busy"] += worker.busy
            slots[worker.phase, "free"] += max(0, worker.slots - worker.busy)
        self._slots.clear()
        for (phase, state), number in slots.items():
            self._slots.labels(phase, state).set(number)
