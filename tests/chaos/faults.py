"""The faults of a chaos run. Each fault has a target and restores it before the fault ends."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from contracts.topology import DEAD_QUEUE, QUEUES, SUBMISSIONS_QUEUE
from tests.chaos.parts import TTL, Servers
from tests.chaos.processes import Service, Services
from tests.chaos.proxy import Proxy

MAX_DOWNTIME = 1.5
"""Maximum seconds for which a killed process or a stopped broker is down."""
STALL = 0.5, 5.0
OUTAGE = 1.0, 4.0
"""Seconds of a stall of connections and of an outage of the object store, from and to."""
ZOMBIE = 1.3, 2.2
"""How long a process is stopped (SIGSTOP), in lengths of a lease, from and to."""
BEFORE_PURGE = 0.5, 1.5
"""Seconds for which messages gather in a queue before it is purged, from and to."""
BEFORE_DELETE = 3.0
"""Seconds without a restart before a queue is deleted: RabbitMQ 3.10 can crash if that follows a restart at once."""
GAP = 0.5, 3.5
"""Seconds between the starts of two faults, from and to; faults with different targets can overlap."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault at one target."""

    name: str
    target: str
    cause: Callable[[random.Random], Awaitable[None]]


class Chaos:
    """Causes the faults of a run: every kind once, in an order drawn from the seed, then every kind again."""

    def __init__(self, servers: Servers, services: Services, seed: int, folder: Path) -> None:
        self._servers = servers
        self._services = services
        self._random = random.Random(seed)
        self._record = folder / "faults.jsonl"
        self._targets: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        """A target has one fault at a time."""
        self._began = time.monotonic()
        self.done = 0

    async def run(self, count: int, before_fault: Callable[[int], Awaitable[None]]) -> None:
        """Cause `count` faults, each after `before_fault` with its number; returns after the end of the last one."""
        faults = self._faults()
        async with asyncio.TaskGroup() as group:
            for number in range(count):
                await before_fault(number)
                group.create_task(self._cause(next(faults), random.Random(self._random.random())))
                await asyncio.sleep(self._random.uniform(*GAP))

    async def _cause(self, fault: Fault, rng: random.Random) -> None:
        async with self._targets[fault.target]:
            began = time.monotonic()
            try:
                await fault.cause(rng)
            finally:
                self._write(fault, began)
        self.done += 1

    def _write(self, fault: Fault, began: float) -> None:
        line = {
            "at": round(began - self._began, 2),
            "seconds": round(time.monotonic() - began, 2),
            "clock": time.strftime("%H:%M:%S", time.gmtime(time.time() - (time.monotonic() - began))),
            "fault": fault.name,
            "target": fault.target,
        }
        with self._record.open("a") as file:
            print(json.dumps(line), file=file)

    def _faults(self) -> Iterator[Fault]:
        while True:
            kinds = self._kinds()
            self._random.shuffle(kinds)
            for kind in kinds:
                yield kind()

    def _kinds(self) -> list[Callable[[], Fault]]:
        servers, services = self._servers, self._services
        return [
            lambda: self._on("kill", services.controls, self._kill),
            lambda: self._on("kill", services.workers, self._kill),
            lambda: self._on("kill", services.workers, self._kill),
            lambda: self._on("kill fork server", services.workers, _kill_fork_server),
            lambda: self._on("kill fork server", services.workers, _kill_fork_server),
            lambda: self._on("zombie", services.controls, _zombie),
            lambda: self._on("zombie", services.workers, _zombie),
            lambda: self._on("zombie", services.workers, _zombie),
            lambda: Fault("restart", "broker", self._restart_broker),
            lambda: Fault("purge", "broker", self._purge),
            lambda: Fault("delete", "broker", self._delete),
            lambda: Fault("close", "broker", self._close_connections),
            lambda: Fault("crash", "database", lambda _: servers.crash_database()),
            lambda: _stall("broker", servers.broker),
            lambda: _stall("database", servers.database),
            lambda: _reset("broker", servers.broker),
            lambda: _reset("database", servers.database),
            lambda: _reset("objects", servers.objects),
            lambda: _stall("objects", servers.objects),
            lambda: Fault("outage", "objects", self._objects_away),
        ]

    def _on(
        self, name: str, services: list[Service], how: Callable[[Service, random.Random], Awaitable[None]]
    ) -> Fault:
        service = self._random.choice(services)
        return Fault(name, service.name, lambda rng: how(service, rng))

    async def _kill(self, service: Service, rng: random.Random) -> None:
        self._services.kept_down.add(service.name)
        service.kill()
        await asyncio.sleep(rng.uniform(0, MAX_DOWNTIME))
        service.start()
        self._services.kept_down.discard(service.name)

    async def _restart_broker(self, rng: random.Random) -> None:
        await self._servers.rabbitmq.stop_app()
        await asyncio.sleep(rng.uniform(0, MAX_DOWNTIME))
        await self._servers.rabbitmq.start_app()

    async def _purge(self, rng: random.Random) -> None:
        """Purge one queue after its consumers were frozen for a while, so that messages are lost.

        The queue of dead letters is left out, because the checker reads it.
        """
        queue = rng.choice([queue for queue in QUEUES if queue is not DEAD_QUEUE])
        consumers = self._services.consumers(queue)
        for service in consumers:
            service.freeze()
        try:
            await asyncio.sleep(rng.uniform(*BEFORE_PURGE))
            await self._servers.rabbitmq.control("purge_queue", queue.name)
        finally:
            for service in consumers:
                service.thaw()

    async def _delete(self, _: random.Random) -> None:
        """Delete the queue of submissions with its messages; the broker cancels the consumers."""
        await asyncio.sleep(BEFORE_DELETE)
        await self._servers.rabbitmq.control("delete_queue", SUBMISSIONS_QUEUE.name)

    async def _close_connections(self, _: random.Random) -> None:
        """Close every connection at the broker, as an operator can."""
        await self._servers.rabbitmq.control("close_all_connections", "chaos")

    async def _objects_away(self, rng: random.Random) -> None:
        """Stop the store for a while; a kill could leave half an object, which a real S3 store never shows."""
        await self._servers.s3.stop()
        await asyncio.sleep(rng.uniform(*OUTAGE))
        await self._servers.s3.start()


async def _kill_fork_server(service: Service, _: random.Random) -> None:
    service.kill_fork_server()


async def _zombie(service: Service, rng: random.Random) -> None:
    service.freeze()
    await asyncio.sleep(TTL * rng.uniform(*ZOMBIE))
    service.thaw()


def _stall(target: str, proxy: Proxy) -> Fault:
    async def cause(rng: random.Random) -> None:
        proxy.stall()
        await asyncio.sleep(rng.uniform(*STALL))
        proxy.flow()

    return Fault("stall", target, cause)


def _reset(target: str, proxy: Proxy) -> Fault:
    async def cause(_: random.Random) -> None:
        proxy.reset()

    return Fault("reset", target, cause)
