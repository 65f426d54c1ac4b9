"""The bus within one process: one object that all services of the process share, or one a simulated process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from infra.bus.handling import serial
from infra.bus.inprocess_broker import MemoryBroker
from infra.bus.inprocess_queue import MemoryConsumer, MemoryQueue
from infra.bus.port import BusUnavailable, Handler, Incoming, Outgoing, PublishFailed, Subscription, Unroutable
from infra.bus.replies import Replies

NOT_STARTED = "the bus is not started"
PRIVATE_PREFETCH = 100


class InProcessBus:
    """A Bus whose shared queues live as long as its broker, over `close` and a new `start` too."""

    name = "in-process"

    def __init__(self, broker: MemoryBroker | None = None) -> None:
        self._broker = broker or MemoryBroker()
        self._consumers: list[MemoryConsumer] = []
        self._replies: Replies | None = None

    async def start(self) -> None:
        """Declare the topology where it is not declared yet."""
        self._broker.declare()
        queue = self._broker.private_queue(None, "")
        self._replies = Replies(self.publish, queue.name)
        self._attach(queue, self._take_reply, PRIVATE_PREFETCH)

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
        if not self._broker.route(message) and message.mandatory:
            raise Unroutable(f"{message.exchange or 'queue'}/{message.routing_key}: no queue takes it")
        await asyncio.sleep(0)  # let the handlers run: a caller that publishes in a loop would starve them

    async def publish_all(self, messages: Sequence[Outgoing]) -> list[PublishFailed | None]:
        """Publish each."""
        return [await self._outcome(message) for message in messages]

    async def consume(self, queue: str, handler: Handler, *, prefetch: int) -> Subscription:
        """Consume a shared queue."""
        return self._attach(self._broker.queue(queue), handler, prefetch)

    async def listen(self, exchange: str, binding: str, handler: Handler) -> Subscription:
        """Consume a private queue bound to `exchange`."""
        return self._attach(self._broker.private_queue(exchange, binding), serial(handler), PRIVATE_PREFETCH)

    async def request(self, message: Outgoing, *, timeout: float) -> bytes:
        """Publish with this bus's reply queue, and await the reply."""
        if self._replies is None:
            raise PublishFailed(NOT_STARTED)
        return await self._replies.request(message, timeout)

    async def depth(self, queue: str) -> int:
        """Messages ready."""
        return self._broker.queue(queue).depth()

    @asynccontextmanager
    async def browse(self, queue: str, limit: int) -> AsyncIterator[list[Incoming]]:
        """Browse a shared queue."""
        with self._broker.queue(queue).browse(limit) as messages:
            yield messages

    def _attach(self, queue: MemoryQueue, handler: Handler, prefetch: int) -> MemoryConsumer:
        if self._replies is None:
            raise BusUnavailable(NOT_STARTED)
        consumer = MemoryConsumer(queue, handler, prefetch)
        self._consumers = [*(known for known in self._consumers if not known.closed), consumer]
        queue.add(consumer)
        return consumer

    async def _take_reply(self, message: Incoming) -> None:
        if self._replies is not None:
            self._replies.take(message.correlation_id, message.body)
        await message.ack()

    async def _outcome(self, message: Outgoing) -> PublishFailed | None:
        try:
            await self.publish(message)
        except PublishFailed as error:
            return error
        return None
