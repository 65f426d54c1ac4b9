"""The ways in which a chaos run breaks things. Each fault has a target, and mends what it broke before it ends."""

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
from tests.chaos.parts import TTL, Parts
from tests.chaos.processes import House, Service
from tests.chaos.proxy import Proxy

LONGEST_DOWN = 1.5
"""Seconds for which a killed process stays away."""
STALL = 0.5, 5.0
OUTAGE = 1.0, 4.0
ZOMBIE = 1.3, 2.2
"""How long a process is stopped, in leases."""
FILLING = 0.5, 1.5
"""How long a queue that is about to be purged fills."""
AFTER_RESTART = 3.0
"""Seconds without a restart before a queue is deleted: RabbitMQ 3.10 can end if one goes just after a restart."""
GAP = 0.5, 3.5
"""Seconds between the beginnings of two faults; several may go on at once, each at another target."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One way to break one thing."""

    name: str
    target: str
    strike: Callable[[random.Random], Awaitable[None]]


class Chaos:
    """Deals the faults of a run: every kind once, in an order drawn by the seed, then every kind again."""

    def __init__(self, parts: Parts, house: House, seed: int, folder: Path) -> None:
        self._parts = parts
        self._house = house
        self._random = random.Random(seed)
        self._record = folder / "faults.jsonl"
        self._targets: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        """Nothing is broken twice at a time."""
        self._began = time.monotonic()
        self.done = 0

    async def run(self, count: int, may_go_on: Callable[[int], Awaitable[None]]) -> None:
        """Strike `count` times; before each, `may_go_on` is awaited. Returns when all is mended."""
        deck = self._deck()
        async with asyncio.TaskGroup() as going:
            for number in range(count):
                await may_go_on(number)
                going.create_task(self._strike(next(deck), random.Random(self._random.random())))
                await asyncio.sleep(self._random.uniform(*GAP))

    async def _strike(self, fault: Fault, drawn: random.Random) -> None:
        async with self._targets[fault.target]:
            began = time.monotonic()
            try:
                await fault.strike(drawn)
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

    def _deck(self) -> Iterator[Fault]:
        while True:
            kinds = self._kinds()
            self._random.shuffle(kinds)
            for kind in kinds:
                yield kind()

    def _kinds(self) -> list[Callable[[], Fault]]:
        parts, house = self._parts, self._house
        return [
            lambda: self._on("kill", house.controls, self._kill),
            lambda: self._on("kill", house.workers, self._kill),
            lambda: self._on("kill", house.workers, self._kill),
            lambda: self._on("zombie", house.controls, _zombie),
            lambda: self._on("zombie", house.workers, _zombie),
            lambda: self._on("zombie", house.workers, _zombie),
            lambda: Fault("restart", "broker", self._restart_broker),
            lambda: Fault("purge", "broker", self._purge),
            lambda: Fault("delete", "broker", self._delete),
            lambda: Fault("close", "broker", self._close_connections),
            lambda: Fault("crash", "database", lambda _: parts.crash_database()),
            lambda: _stall("broker", parts.broker),
            lambda: _stall("database", parts.database),
            lambda: _reset("broker", parts.broker),
            lambda: _reset("database", parts.database),
            lambda: _reset("objects", parts.objects),
            lambda: _stall("objects", parts.objects),
            lambda: Fault("outage", "objects", self._objects_away),
        ]

    def _on(
        self, name: str, services: list[Service], how: Callable[[Service, random.Random], Awaitable[None]]
    ) -> Fault:
        service = self._random.choice(services)
        return Fault(name, service.name, lambda drawn: how(service, drawn))

    async def _kill(self, service: Service, drawn: random.Random) -> None:
        self._house.resting.add(service.name)
        service.kill()
        await asyncio.sleep(drawn.uniform(0, LONGEST_DOWN))
        service.start()
        self._house.resting.discard(service.name)

    async def _restart_broker(self, drawn: random.Random) -> None:
        await self._parts.rabbitmq.stop_app()
        await asyncio.sleep(drawn.uniform(0, LONGEST_DOWN))
        await self._parts.rabbitmq.start_app()

    async def _purge(self, drawn: random.Random) -> None:
        """Empty one queue while its consumers stand still, so that there is something in it to be lost.

        Dead letters are spared: they are evidence.
        """
        queue = drawn.choice([queue for queue in QUEUES if queue is not DEAD_QUEUE])
        consumers = self._house.consumers(queue)
        for service in consumers:
            service.freeze()
        try:
            await asyncio.sleep(drawn.uniform(*FILLING))
            await self._parts.rabbitmq.control("purge_queue", queue.name)
        finally:
            for service in consumers:
                service.thaw()

    async def _delete(self, _: random.Random) -> None:
        """Delete the queue of submissions: the broker cancels its consumers, and what was in it is lost."""
        await asyncio.sleep(AFTER_RESTART)
        await self._parts.rabbitmq.control("delete_queue", SUBMISSIONS_QUEUE.name)

    async def _close_connections(self, _: random.Random) -> None:
        """Let the broker close every connection, as an operator can."""
        await self._parts.rabbitmq.control("close_all_connections", "chaos")

    async def _objects_away(self, drawn: random.Random) -> None:
        """Ended, not killed: half an object is nothing that an S3 store would show."""
        await self._parts.s3.stop()
        await asyncio.sleep(drawn.uniform(*OUTAGE))
        await self._parts.s3.start()


async def _zombie(service: Service, drawn: random.Random) -> None:
    service.freeze()
    await asyncio.sleep(TTL * drawn.uniform(*ZOMBIE))
    service.thaw()


def _stall(target: str, proxy: Proxy) -> Fault:
    async def strike(drawn: random.Random) -> None:
        proxy.stall()
        await asyncio.sleep(drawn.uniform(*STALL))
        proxy.flow()

    return Fault("stall", target, strike)


def _reset(target: str, proxy: Proxy) -> Fault:
    async def strike(_: random.Random) -> None:
        proxy.reset()

    return Fault("reset", target, strike)
