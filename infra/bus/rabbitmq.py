"""The bus on RabbitMQ, by aio-pika: one connection to consume, another to publish.

Apart, because a broker that is short of memory or disk blocks a publishing connection whole, acknowledgements included.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import TypeVar
from urllib.parse import urlsplit

import aio_pika
import structlog
from aio_pika.abc import AbstractRobustChannel, AbstractRobustConnection, AbstractRobustQueue
from aio_pika.exceptions import CONNECTION_EXCEPTIONS, ProbableAuthenticationError

from infra.bus.handling import serial
from infra.bus.port import BusUnavailable, Handler, Incoming, Outgoing, PublishFailed, Subscription
from infra.bus.rabbitmq_consumer import Consumer, Declare
from infra.bus.rabbitmq_delivery import Delivery
from infra.bus.rabbitmq_publisher import Publisher
from infra.bus.rabbitmq_topology import BY_NAME, declare_private, declare_shared, declare_topology, look_up
from infra.bus.replies import Replies

HEARTBEAT = 15
"""Seconds; a connection whose other end has been silent for about three of them is given up."""
CONNECT_TIMEOUT = 10.0
CALL_TIMEOUT = 15.0
CLOSE_TIMEOUT = 5.0
RECONNECT_AFTER = 1.0
PRIVATE_PREFETCH = 100
NOT_STARTED = "the bus is not started"

T = TypeVar("T")
log = structlog.get_logger(__name__)


class RabbitMQBus:
    """A Bus on the broker at `url`. It may be started again after it was closed."""

    name = "rabbitmq"

    def __init__(self, url: str) -> None:
        self._url = url
        self._consuming: AbstractRobustConnection | None = None
        self._publishing: AbstractRobustConnection | None = None
        self._publisher: Publisher | None = None
        self._replies: Replies | None = None
        self._consumers: list[Consumer] = []

    async def start(self) -> None:
        """Connect twice and declare the topology. Raises BusUnavailable, with nothing left open."""
        try:
            await self._call(self._start())
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Disconnect: the broker cancels the consumers, and has back what was not settled."""
        consumers, self._consumers = self._consumers, []
        for consumer in consumers:
            await consumer.abandon()
        connections = [self._consuming, self._publishing]
        self._consuming = self._publishing = self._publisher = self._replies = None
        for connection in connections:
            if connection is not None:
                await _disconnect(connection)

    async def publish(self, message: Outgoing) -> None:
        """Publish and await the confirm."""
        if self._publisher is None:
            raise PublishFailed(NOT_STARTED)
        await self._publisher.publish(message)

    async def publish_all(self, messages: Sequence[Outgoing]) -> list[PublishFailed | None]:
        """Publish all, with gathered confirms."""
        if self._publisher is None:
            return [PublishFailed(NOT_STARTED) for _ in messages]
        return await self._publisher.publish_all(messages)

    async def consume(self, queue: str, handler: Handler, *, prefetch: int) -> Subscription:
        """Consume a queue of the topology."""
        spec = BY_NAME[queue]

        async def declare(channel: AbstractRobustChannel) -> AbstractRobustQueue:
            return await declare_shared(channel, spec)

        return await self._attach(declare, handler, prefetch)

    async def listen(self, exchange: str, binding: str, handler: Handler) -> Subscription:
        """Consume a private queue bound to `exchange`. What is published while we are disconnected is missed."""
        return await self._listen(exchange, binding, serial(handler))

    async def request(self, message: Outgoing, *, timeout: float) -> bytes:
        """Publish with this bus's reply queue, and await the reply."""
        if self._replies is None:
            raise PublishFailed(NOT_STARTED)
        return await self._replies.request(message, timeout)

    async def depth(self, queue: str) -> int:
        """Messages ready, by a passive declaration on a channel of its own, which a missing queue closes."""
        return await self._call(self._depth(queue))

    @asynccontextmanager
    async def browse(self, queue: str, limit: int) -> AsyncIterator[list[Incoming]]:
        """Browse a shared queue, on a channel of its own. A process that dies in the block gives everything back."""
        channel = await self._call(self._channel())
        try:
            there = await self._call(look_up(channel, queue))
            taken = [delivery async for delivery in self._taken(there, limit)]
            try:
                yield [delivery.incoming for delivery in taken]
            finally:
                for delivery in taken:  # one by one: closing the channel would return them in no order
                    await delivery.requeue()
        finally:
            with suppress(*CONNECTION_EXCEPTIONS):
                await channel.close()

    async def _start(self) -> None:
        self._consuming = await self._connect("consume")
        self._publishing = await self._connect("publish")
        async with self._consuming.channel() as channel:
            await declare_topology(channel)
        self._consuming.reconnect_callbacks.add(self._reconnected)
        channel = await self._publishing.channel(on_return_raises=True)
        self._publisher = Publisher(channel)
        self._replies = Replies(self.publish, lambda handler: self._listen(None, "", handler))

    async def _connect(self, purpose: str) -> AbstractRobustConnection:
        return await aio_pika.connect_robust(
            self._url,
            timeout=CONNECT_TIMEOUT,
            heartbeat=HEARTBEAT,
            reconnect_interval=RECONNECT_AFTER,
            client_properties={"connection_name": f"treadle {purpose}"},
        )

    async def _reconnected(self, *_: object) -> None:
        """The broker may come back empty."""
        try:
            async with self._started(self._consuming).channel() as channel:
                await declare_topology(channel)
        except (*CONNECTION_EXCEPTIONS, BusUnavailable, TimeoutError) as error:
            log.warning("topology_not_restored", error=str(error))

    async def _listen(self, exchange: str | None, binding: str, handler: Handler) -> Consumer:
        async def declare(channel: AbstractRobustChannel) -> AbstractRobustQueue:
            return await declare_private(channel, exchange, binding)

        return await self._attach(declare, handler, PRIVATE_PREFETCH)

    async def _attach(self, declare: Declare, handler: Handler, prefetch: int) -> Consumer:
        """Attach a consumer, waiting for a connection that is just being restored."""
        channel = await self._call(self._channel())
        consumer = Consumer(channel, declare, handler, prefetch)
        self._consumers = [*(known for known in self._consumers if not known.closed), consumer]
        try:
            await self._call(consumer.start())
        except BaseException:
            await consumer.cancel()
            raise
        return consumer

    async def _channel(self) -> AbstractRobustChannel:
        connection = self._started(self._consuming)
        await connection.ready()
        channel = connection.channel(publisher_confirms=False)
        await channel.initialize()
        return channel

    async def _depth(self, queue: str) -> int:
        async with await self._channel() as channel:
            return (await look_up(channel, queue)).declaration_result.message_count or 0

    async def _taken(self, queue: AbstractRobustQueue, limit: int) -> AsyncIterator[Delivery]:
        for _ in range(limit):
            message = await self._call(queue.get(fail=False, timeout=CALL_TIMEOUT))
            if message is None:
                return
            yield Delivery(message, lambda _: None)

    async def _call(self, step: Awaitable[T]) -> T:
        """Await `step` for a bounded time, and say in one kind of error that the broker is not there."""
        try:
            async with asyncio.timeout(CALL_TIMEOUT):
                return await step
        except ProbableAuthenticationError as error:
            raise BusUnavailable(f"{self._address} refuses the user or the password of TREADLE_BUS_URL") from error
        except (*CONNECTION_EXCEPTIONS, TimeoutError) as error:
            raise BusUnavailable(
                f"RabbitMQ at {self._address} does not answer ({error or type(error).__name__}): "
                "is it running, and is TREADLE_BUS_URL right?"
            ) from error

    @property
    def _address(self) -> str:
        """Where the broker is, without the password."""
        parts = urlsplit(self._url)
        return f"{parts.scheme}://{parts.hostname}:{parts.port or 5672}{parts.path or '/'}"

    def _started(self, part: T | None) -> T:
        if part is None:
            raise BusUnavailable(NOT_STARTED)
        return part


async def _disconnect(connection: AbstractRobustConnection) -> None:
    with suppress(*CONNECTION_EXCEPTIONS, TimeoutError):
        async with asyncio.timeout(CLOSE_TIMEOUT):
            await connection.close()
