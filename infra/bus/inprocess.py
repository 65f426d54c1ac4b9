"""The bus within one process: all services of the process share one bus, or each simulated process has its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from contracts.topology import QUEUES_BY_NAME
from infra.bus.handling import GuardedHandler, listening
from infra.bus.inprocess_broker import InProcessBroker
from infra.bus.inprocess_queue import InProcessConsumer, InProcessQueue
from infra.bus.poison import Poison
from infra.bus.port import (
    BusUnavailable,
    Handler,
    IncomingMessage,
    OutgoingMessage,
    PublishFailed,
    Subscription,
    Unroutable,
)
from infra.bus.replies import Replies

NOT_STARTED = "the bus is not started"
PRIVATE_PREFETCH = 100


class InProcessBus:
    """A Bus whose shared queues exist as long as its broker, also after `close` and a new `start`."""

    name = "in-process"

    def __init__(self, broker: InProcessBroker | None = None) -> None:
        self.poison = Poison()
        self._broker = broker or InProcessBroker()
        self._consumers: list[InProcessConsumer] = []
        self._replies: Replies | None = None

    async def start(self) -> None:
        """Declare the topology and open the reply queue."""
        self._broker.declare()
        queue = self._broker.private_queue(None, "")
        self._replies = Replies(self.publish, queue.name)
        self._attach(queue, self._take_reply, PRIVATE_PREFETCH)

    async def close(self) -> None:
        """Cancel the handlers, requeue the unsettled messages, and delete the private queues."""
        self._replies = None
        consumers, self._consumers = self._consumers, []
        for consumer in consumers:
            await consumer.lose()

    async def publish(self, message: OutgoingMessage) -> None:
        """Put the message into its queues, which are only in memory. Raises PublishFailed or Unroutable."""
        if self._replies is None:
            raise PublishFailed(NOT_STARTED)
        if not self._broker.route(message) and message.mandatory:
            raise Unroutable(f"{message.exchange or 'queue'}/{message.routing_key}: no queue is bound for this key")
        await asyncio.sleep(0)  # let the handlers run, also if the caller publishes in a loop

    async def publish_all(self, messages: Sequence[OutgoingMessage]) -> list[PublishFailed | None]:
        """Publish each message."""
        return [await self._outcome(message) for message in messages]

    async def consume(self, queue: str, handler: Handler, *, prefetch: int) -> Subscription:
        """Consume a shared queue."""
        return self._attach(self._broker.queue(queue), handler, prefetch)

    async def listen(self, exchange: str, binding: str, handler: Handler) -> Subscription:
        """Consume a new private queue bound to `exchange`."""
        queue = self._broker.private_queue(exchange, binding)
        return self._attach(queue, listening(handler), PRIVATE_PREFETCH)

    async def request(self, message: OutgoingMessage, *, timeout: float) -> bytes:
        """Publish with the reply queue of this bus as `reply_to`, and await the reply."""
        if self._replies is None:
            raise PublishFailed(NOT_STARTED)
        return await self._replies.request(message, timeout)

    async def depth(self, queue: str) -> int:
        """The number of ready messages."""
        return self._broker.queue(queue).depth()

    async def consumers(self, queue: str) -> int:
        """The number of consumers of a shared queue."""
        return self._broker.queue(queue).consumers()

    async def missing(self) -> dict[str, str]:
        """Nothing: the topology lasts as long as the broker."""
        return {}

    async def replace_outdated(self) -> set[str]:
        """Nothing: no earlier version declared a queue in this process."""
        return set()

    @asynccontextmanager
    async def browse(self, queue: str, limit: int) -> AsyncIterator[list[IncomingMessage]]:
        """Browse a shared queue."""
        with self._broker.queue(queue).browse(limit) as messages:
            yield messages

    def _attach(self, queue: InProcessQueue, handler: Handler, prefetch: int) -> InProcessConsumer:
        if self._replies is None:
            raise BusUnavailable(NOT_STARTED)
        shared = QUEUES_BY_NAME.get(queue.name)
        guarded = GuardedHandler(
            self,
            queue.listens_to or queue.name,
            handler,
            prefetch,
            keeps=shared is not None and shared.dead_letters,
            serial=queue.listens_to is not None,
        )
        consumer = InProcessConsumer(queue, guarded.handle, prefetch)
        self._consumers = [*(existing for existing in self._consumers if not existing.closed), consumer]
        queue.add(consumer)
        return consumer

    async def _take_reply(self, message: IncomingMessage) -> None:
        if self._replies is not None:
            self._replies.take(message.correlation_id, message.body)
        await message.ack()

    async def _outcome(self, message: OutgoingMessage) -> PublishFailed | None:
        try:
            await self.publish(message)
        except PublishFailed as error:
            return error
        return None
