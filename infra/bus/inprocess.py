"""The bus within one process: one object that all services of the process share. It keeps nothing on disk."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from itertools import count

from contracts.topology import DEAD, DELIVERY_LIMIT, EXCHANGES, PRIVATE_QUEUE_LENGTH, QUEUES, ExchangeKind, Queue
from infra.bus.handling import serial
from infra.bus.inprocess_queue import Letter, MemoryConsumer, MemoryQueue
from infra.bus.port import BusUnavailable, Handler, Incoming, Outgoing, PublishFailed, Subscription, Unroutable
from infra.bus.replies import Replies
from infra.bus.routing import routes

NOT_STARTED = "the bus is not started"
PRIVATE_PREFETCH = 100


class InProcessBus:
    """A Bus whose shared queues live as long as the object, over `close` and a new `start` too."""

    name = "in-process"

    def __init__(self) -> None:
        self._kinds: dict[str, ExchangeKind] = {}
        self._bindings: dict[str, list[tuple[str, str]]] = {}
        self._queues: dict[str, MemoryQueue] = {}
        self._names = count(1)
        self._consumers: list[MemoryConsumer] = []
        self._replies: Replies | None = None

    async def start(self) -> None:
        """Declare the topology where it is not declared yet."""
        for exchange in EXCHANGES:
            self._kinds[exchange.name] = exchange.kind
        for queue in QUEUES:
            if queue.name not in self._queues:
                self._declare(queue)
        self._replies = Replies(self.publish, lambda handler: self._listen(None, "", handler))

    async def close(self) -> None:
        """Cancel handlers, give back what was not settled, and drop the private queues."""
        self._replies = None
        consumers, self._consumers = self._consumers, []
        for consumer in consumers:
            await consumer.lose()

    async def publish(self, message: Outgoing) -> None:
        """Route it; it is then as safe as this process."""
        if self._replies is None:
            raise PublishFailed(NOT_STARTED)
        if not self._route(message) and message.mandatory:
            raise Unroutable(f"{message.exchange or 'queue'}/{message.routing_key}: no queue takes it")
        await asyncio.sleep(0)  # let the handlers run: a caller that publishes in a loop would starve them

    async def publish_all(self, messages: Sequence[Outgoing]) -> list[PublishFailed | None]:
        """Publish each."""
        return [await self._outcome(message) for message in messages]

    async def consume(self, queue: str, handler: Handler, *, prefetch: int) -> Subscription:
        """Consume a shared queue."""
        return self._attach(self._queues[queue], handler, prefetch)

    async def listen(self, exchange: str, binding: str, handler: Handler) -> Subscription:
        """Consume a private queue bound to `exchange`."""
        return await self._listen(exchange, binding, serial(handler))

    async def request(self, message: Outgoing, *, timeout: float) -> bytes:
        """Publish with this bus's reply queue, and await the reply."""
        if self._replies is None:
            raise PublishFailed(NOT_STARTED)
        return await self._replies.request(message, timeout)

    async def depth(self, queue: str) -> int:
        """Messages ready."""
        return self._known(queue).depth()

    @asynccontextmanager
    async def browse(self, queue: str, limit: int) -> AsyncIterator[list[Incoming]]:
        """Browse a shared queue."""
        with self._known(queue).browse(limit) as messages:
            yield messages

    def _known(self, queue: str) -> MemoryQueue:
        if queue not in self._queues:
            raise BusUnavailable(f"the queue {queue} does not exist")
        return self._queues[queue]

    async def _listen(self, exchange: str | None, binding: str, handler: Handler) -> MemoryConsumer:
        name = f"private.{next(self._names)}"
        queue = MemoryQueue(name, _drop, longest=PRIVATE_QUEUE_LENGTH, unused=lambda: self._delete(name))
        self._queues[name] = queue
        if exchange is not None:
            self._bind(exchange, binding, name)
        return self._attach(queue, handler, PRIVATE_PREFETCH)

    def _attach(self, queue: MemoryQueue, handler: Handler, prefetch: int) -> MemoryConsumer:
        if self._replies is None:
            raise BusUnavailable(NOT_STARTED)
        consumer = MemoryConsumer(queue, handler, prefetch)
        self._consumers = [*(known for known in self._consumers if not known.closed), consumer]
        queue.add(consumer)
        return consumer

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

    async def _outcome(self, message: Outgoing) -> PublishFailed | None:
        try:
            await self.publish(message)
        except PublishFailed as error:
            return error
        return None

    def _route(self, message: Outgoing) -> bool:
        """Put it into every queue that is bound for it, once; whether there was one."""
        queues = self._routed(message.exchange, message.routing_key)
        end = None if message.expires is None else asyncio.get_running_loop().time() + message.expires
        for queue in queues:
            queue.put(Letter(message, end))
        return bool(queues)

    def _routed(self, exchange: str, routing_key: str) -> list[MemoryQueue]:
        if not exchange:
            return [self._queues[routing_key]] if routing_key in self._queues else []
        if exchange not in self._kinds:
            raise PublishFailed(f"there is no exchange {exchange}")
        bound = self._bindings.get(exchange, [])
        names = {queue: None for binding, queue in bound if routes(self._kinds[exchange], binding, routing_key)}
        return [self._queues[name] for name in names]

    def _bury(self, letter: Letter, queue: str, reason: str) -> None:
        """Send a letter to the dead letters, with the headers that RabbitMQ gives it."""
        message = letter.message
        death = {"x-first-death-exchange": message.exchange, "x-first-death-queue": queue}
        headers = {**message.headers, **death, "x-first-death-reason": reason}
        self._route(replace(message, exchange=DEAD.name, headers=headers, expires=None))


def _drop(letter: Letter, reason: str) -> None:
    """What becomes of a letter in a queue that keeps no dead letters."""
