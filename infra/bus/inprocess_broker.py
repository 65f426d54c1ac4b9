"""A broker within one process: exchanges, bindings and queues, all in memory."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from itertools import count

from contracts.topology import DEAD, DELIVERY_LIMIT, EXCHANGES, PRIVATE_QUEUE_LENGTH, QUEUES, ExchangeKind, Queue
from infra.bus.inprocess_queue import InProcessQueue, QueuedMessage
from infra.bus.port import BusUnavailable, OutgoingMessage, PublishFailed
from infra.bus.routing import routes


class InProcessBroker:
    """Holds the topology of `contracts.topology`; each bus that shares a broker acts as a process connected to it."""

    def __init__(self) -> None:
        self._kinds: dict[str, ExchangeKind] = {}
        self._bindings: dict[str, list[tuple[str, str]]] = {}
        self._queues: dict[str, InProcessQueue] = {}
        self._names = count(1)

    def declare(self) -> None:
        """Declare the exchanges, queues and bindings that do not exist yet."""
        for exchange in EXCHANGES:
            self._kinds[exchange.name] = exchange.kind
        for queue in QUEUES:
            if queue.name not in self._queues:
                self._declare(queue)

    def queue(self, name: str) -> InProcessQueue:
        """The queue of this name. Raises BusUnavailable if it does not exist."""
        if name not in self._queues:
            raise BusUnavailable(f"the queue {name} does not exist")
        return self._queues[name]

    def private_queue(self, exchange: str | None, binding: str) -> InProcessQueue:
        """A new bounded queue, deleted with its last consumer, and bound to `exchange` unless that is None."""
        name = f"private.{next(self._names)}"
        queue = InProcessQueue(
            name,
            _drop,
            max_length=PRIVATE_QUEUE_LENGTH,
            listens_to=exchange,
            on_unused=lambda: self._delete(name),
        )
        self._queues[name] = queue
        if exchange is not None:
            self._bind(exchange, binding, name)
        return queue

    def route(self, message: OutgoingMessage) -> bool:
        """Put the message once into every queue that is bound for it. Returns whether there was one."""
        queues = self.routed(message)
        expires_at = None if message.expires is None else asyncio.get_running_loop().time() + message.expires
        for queue in queues:
            queue.put(QueuedMessage(message, expires_at))
        return bool(queues)

    def routed(self, message: OutgoingMessage) -> list[InProcessQueue]:
        """The queues that are bound for the message. Raises PublishFailed if its exchange does not exist."""
        exchange, routing_key = message.exchange, message.routing_key
        if not exchange:
            return [self._queues[routing_key]] if routing_key in self._queues else []
        if exchange not in self._kinds:
            raise PublishFailed(f"the exchange {exchange} does not exist")
        bound = self._bindings.get(exchange, [])
        names = {queue: None for binding, queue in bound if routes(self._kinds[exchange], binding, routing_key)}
        return [self._queues[name] for name in names]

    def _declare(self, queue: Queue) -> None:
        def dead_letter(queued: QueuedMessage, reason: str) -> None:
            self._dead_letter(queued, queue.name, reason)

        self._queues[queue.name] = InProcessQueue(
            queue.name,
            dead_letter if queue.dead_letters else _drop,
            delivery_limit=DELIVERY_LIMIT if queue.dead_letters else None,
            max_length=queue.max_length,
            expires=queue.expires,
        )
        self._bind(queue.exchange, queue.binding, queue.name)

    def _delete(self, name: str) -> None:
        del self._queues[name]
        for exchange, bound in self._bindings.items():
            self._bindings[exchange] = [(binding, queue) for binding, queue in bound if queue != name]

    def _bind(self, exchange: str, binding: str, queue: str) -> None:
        self._bindings.setdefault(exchange, []).append((binding, queue))

    def _dead_letter(self, queued: QueuedMessage, queue: str, reason: str) -> None:
        """Route a message to the dead-letter exchange, with the headers that RabbitMQ adds."""
        message = queued.message
        death = {"x-first-death-exchange": message.exchange, "x-first-death-queue": queue}
        headers = {**message.headers, **death, "x-first-death-reason": reason}
        self.route(replace(message, exchange=DEAD.name, headers=headers, expires=None))


def _drop(queued: QueuedMessage, reason: str) -> None:
    """Do nothing: this queue has no dead letters, so the message is dropped."""
