"""Prometheus gauges, read from the store and the broker at each scrape; identical in every control process."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Gauge, generate_latest
from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

from contracts.tasks import Phase, TaskStatus
from contracts.topology import DEAD_QUEUE
from control.store.port import Store, StoreUnavailable
from control.store.values import WORKER_WINDOW
from control.telemetry.worker_gauges import WorkerGauges
from infra.bus.poison import Poison
from infra.bus.port import Bus, BusUnavailable

STORE_TIMEOUT = 5.0
"""Seconds that a scrape waits for the database."""
BUS_TIMEOUT = 2.0
"""Seconds that a scrape waits for the broker."""


class PoisonCollector(Collector):
    """Exports the counts of the messages that the consumers of this process could not handle."""

    def __init__(self, poison: Poison) -> None:
        self._poison = poison

    def collect(self) -> Iterator[CounterMetricFamily]:
        """The counts by queue and by the class of the error."""
        family = CounterMetricFamily(
            "treadle_poison_messages", "Messages that could not be handled.", labels=["queue", "reason"]
        )
        for (queue, cause), number in self._poison.counts.items():
            family.add_metric([queue, cause], number)
        yield family


class Gauges:
    """Gauges of tasks, outbox, leases, workers and dead letters."""

    def __init__(self, registry: CollectorRegistry, store: Store, bus: Bus) -> None:
        self._registry = registry
        self._store = store
        self._bus = bus
        self._tasks = Gauge("treadle_tasks", "Tasks by status.", ["status"], registry=registry)
        self._outbox = Gauge("treadle_outbox_pending", "Outbox messages not confirmed yet.", registry=registry)
        self._oldest = Gauge(
            "treadle_outbox_oldest_age_seconds", "Age of the oldest due outbox message.", registry=registry
        )
        self._workers = WorkerGauges(registry)
        self._silence = Gauge(
            "treadle_heartbeat_age_seconds",
            "Longest time since the last heartbeat of a running attempt, in seconds.",
            ["phase"],
            registry=registry,
        )
        self._dead = Gauge("treadle_dead_letters", "Messages that could not be handled.", registry=registry)
        limit = "Dead letters above which the broker deletes the oldest."
        Gauge("treadle_dead_letters_limit", limit, registry=registry).set(DEAD_QUEUE.max_length or 0)
        registry.register(PoisonCollector(bus.poison))
        self._store_up = Gauge(
            "treadle_store_up", "1 if the database responded to this scrape, else 0.", registry=registry
        )
        self._bus_up = Gauge("treadle_bus_up", "1 if the broker responded to this scrape, else 0.", registry=registry)

    async def scrape(self) -> bytes:
        """Read the gauges, and return the whole registry in Prometheus text format."""
        await asyncio.gather(self._read_store(), self._read_bus())
        return generate_latest(self._registry)

    async def _read_store(self) -> None:
        try:
            async with asyncio.timeout(STORE_TIMEOUT):
                await self._set_store_gauges()
            self._store_up.set(1)
        except (StoreUnavailable, TimeoutError):
            self._store_up.set(0)

    async def _read_bus(self) -> None:
        try:
            async with asyncio.timeout(BUS_TIMEOUT):
                self._dead.set(await self._bus.depth(DEAD_QUEUE.name))
            self._bus_up.set(1)
        except (BusUnavailable, TimeoutError):
            self._bus_up.set(0)

    async def _set_store_gauges(self) -> None:
        counts = await self._store.counts()
        for status in TaskStatus:
            self._tasks.labels(status).set(counts.get(status, 0))
        depth, oldest = await self._store.outbox_depth()
        self._outbox.set(depth)
        self._oldest.set(oldest)
        longest_silence = await self._store.longest_silence()
        for phase in Phase:
            self._silence.labels(phase).set(longest_silence.get(phase, 0.0))
        self._workers.set(await self._store.workers(WORKER_WINDOW))
