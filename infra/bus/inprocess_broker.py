"""A broker within one process: exchanges, bindings and queues. It keeps nothing on disk."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from itertools import count

from contracts.topology import DEAD, DELIVERY_LIMIT, EXCHANGES, PRIVATE_QUEUE_LENGTH, QUEUES, ExchangeKind, Queue
from infra.bus.inprocess_queue import Letter, MemoryQueue
from infra.bus.port import BusUnavailable, Outgoing, PublishFailed
from infra.bus.routing import routes


class MemoryBroker:
    """The topology of `contracts.topology`. Buses upon the same broker are processes at the same broker."""

    def __init__(self) -> None:
        self._kinds: dict[str, ExchangeKind] = {}
        self._bindings: dict[str, list[tuple[str, str]]] = {}
        self._queues: dict[str, MemoryQueue] = {}
        self._names = count(1)

    def declare(self) -> None:
        """Declare the topology where it is not declared yet."""
        for exchange in EXCHANGES:
            self._kinds[exchange.name] = exchange.kind
        for queue in QUEUES:
            if queue.name not in self._queues:
                self._declare(queue)

    def queue(self, name: str) -> MemoryQueue:
        """A queue. Raises BusUnavailable where there is none of this name."""
        if name not in self._queues:
            raise BusUnavailable(f"the queue {name} does not exist")
        return self._queues[name]

    def private_queue(self, exchange: str | None, binding: str) -> MemoryQueue:
        """A new, bounded queue that vanishes with its last consumer; bound where an exchange is named."""
        name = f"private.{next(self._names)}"
        queue = MemoryQueue(name, _drop, longest=PRIVATE_QUEUE_LENGTH, unused=lambda: self._delete(name))
        self._queues[name] = queue
        if exchange is not None:
            self._bind(exchange, binding, name)
        return queue

    def route(self, message: Outgoing) -> bool:
        """Put it into every queue that is bound for it, once; whether there was one."""
        queues = self.routed(message)
        end = None if message.expires is None else asyncio.get_running_loop().time() + message.expires
        for queue in queues:
            queue.put(Letter(message, end))
        return bool(queues)

    def routed(self, message: Outgoing) -> list[MemoryQueue]:
        """The queues that are bound for it. Raises PublishFailed where there is no such exchange."""
        exchange, routing_key = message.exchange, message.routing_key
        if not exchange:
            return [self._queues[routing_key]] if routing_key in self._queues else []
        if exchange not in self._kinds:
            raise PublishFailed(f"there is no exchange {exchange}")
        bound = self._bindings.get(exchange, [])
        names = {queue: None for binding, queue in bound if routes(self._kinds[exchange], binding, routing_key)}
        return [self._queues[name] for name in names]

    def _declare(self, queue: Queue) -> None:
        def bury(letter: Letter, reason: str) -> None:
            self._bury(letter, queue.name, reason)

        limit = DELIVERY_LIMIT if queue.dead_letters else None
        self._queues[queue.name] = MemoryQueue(queue.name, bury if queue.dead_letters else _drop, limit=limit)
        self._bind(queue.exchange, queue.binding, queue.name)

    def _delete(self, name: str) -> None:
        del self._queues[name]
        for exchange, bound in self._bindings.items():
            self._bindings[exchange] = [(binding, queue) for binding, queue in bound if queue != name]

    def _bind(self, exchange: str, binding: str, queue: str) -> None:
        self._bindings.setdefault(exchange, []).append((binding, queue))

    def _bury(self, letter: Letter, queue: str, reason: str) -> None:
        """Send a letter to the dead letters, with the headers that RabbitMQ gives it."""
        message = letter.message
        death = {"x-first-death-exchange": message.exchange, "x-first-death-queue": queue}
        headers = {**message.headers, **death, "x-first-death-reason": reason}
        self.route(replace(message, exchange=DEAD.name, headers=headers, expires=None))


def _drop(letter: Letter, reason: str) -> None:
    """What becomes of a letter in a queue that keeps no dead letters."""
