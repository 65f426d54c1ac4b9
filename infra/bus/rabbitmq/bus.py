"""The bus on RabbitMQ: one connection to consume, another to publish.

They are apart because a broker that is short of memory or disk blocks a publishing connection whole, acknowledgements
included.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import TypeVar
from urllib.parse import urlsplit

import structlog
from aio_pika import Channel, RobustConnection
from aio_pika.abc import AbstractChannel, AbstractQueue, AbstractRobustConnection
from aio_pika.exceptions import ProbableAuthenticationError
from yarl import URL

from infra.bus.handling import serial
from infra.bus.port import BusUnavailable, Handler, Incoming, Outgoing, PublishFailed, Subscription
from infra.bus.rabbitmq.calls import AWAY, CALL_TIMEOUT, calling
from infra.bus.rabbitmq.consumer import Consumer, Declare
from infra.bus.rabbitmq.libraries import configure_libraries
from infra.bus.rabbitmq.messages import Delivery
from infra.bus.rabbitmq.publisher import Publisher
from infra.bus.rabbitmq.requests import Requests
from infra.bus.rabbitmq.topology import BY_NAME, declare_private, declare_shared, declare_topology, look_up

HEARTBEAT = 15
"""Seconds; a connection whose other end has been silent for about three of them is given up."""
CONNECT_TIMEOUT = 10.0
CLOSE_TIMEOUT = 5.0
RECONNECT_AFTER = 0.5
PRIVATE_PREFETCH = 100
NOT_STARTED = "the bus is not started"

T = TypeVar("T")
log = structlog.get_logger(__name__)


class RabbitMQBus:
    """A Bus on the broker at `url`. It may be started again after it was closed."""

    name = "rabbitmq"

    def __init__(self, url: str) -> None:
        self._url = url
        self._consuming: RobustConnection | None = None
        self._publishing: RobustConnection | None = None
        self._publisher: Publisher | None = None
        self._requests: Requests | None = None
        self._consumers: list[Consumer] = []

    async def start(self) -> None:
        """Connect twice and declare the topology. Raises BusUnavailable, with nothing left open."""
        try:
            await self._call(self._start())
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Disconnect: the broker cancels the consumers and takes back what was not settled."""
        consumers, self._consumers = self._consumers, []
        for consumer in consumers:
            await consumer.abandon()
        connections = (self._consuming, self._publishing)
        self._consuming = self._publishing = self._publisher = self._requests = None
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

        async def declare(channel: AbstractChannel) -> AbstractQueue:
            return await declare_shared(channel, spec)

        return await self._attach(declare, handler, prefetch)

    async def listen(self, exchange: str, binding: str, handler: Handler) -> Subscription:
        """Consume a private queue bound to `exchange`. What is published while we are disconnected is missed."""

        async def declare(channel: AbstractChannel) -> AbstractQueue:
            return await declare_private(channel, exchange, binding)

        return await self._attach(declare, serial(handler), PRIVATE_PREFETCH)

    async def request(self, message: Outgoing, *, timeout: float) -> bytes:
        """Publish with direct reply-to and await the reply."""
        if self._requests is None:
            raise PublishFailed(NOT_STARTED)
        return await self._requests.request(message, timeout)

    async def depth(self, queue: str) -> int:
        """Messages ready, by a passive declaration on a channel of its own, which a missing queue closes."""
        async with self._channel() as channel:
            found = await self._call(look_up(channel, queue))
            return found.declaration_result.message_count or 0

    @asynccontextmanager
    async def browse(self, queue: str, limit: int) -> AsyncIterator[list[Incoming]]:
        """Browse a shared queue, on a channel of its own. A process that dies in the block gives everything back."""
        async with self._channel() as channel:
            await self._call(look_up(channel, queue))
            taken = [delivery async for delivery in self._taken(channel, queue, limit)]
            try:
                yield [delivery.incoming() for delivery in taken]
            finally:
                for delivery in taken:  # one by one: closing the channel would return them in no order
                    await delivery.requeue()

    async def _start(self) -> None:
        configure_libraries()
        self._consuming = self._connection("consume")
        self._publishing = self._connection("publish")
        for connection in (self._consuming, self._publishing):
            await _connect(connection)
        await self._declare()
        self._consuming.reconnect_callbacks.add(self._restore)
        self._publisher = await Publisher.open(self._publishing)
        self._requests = await Requests.open(self._publishing)

    def _connection(self, purpose: str) -> RobustConnection:
        """A connection that is not open yet. The broker lists it under its purpose."""
        connection = RobustConnection(
            URL(self._url).update_query(heartbeat=HEARTBEAT),  # as a keyword it would be ignored
            reconnect_interval=RECONNECT_AFTER,
            client_properties={"connection_name": f"treadle {purpose}"},
        )
        connection.close_callbacks.add(partial(_log_lost, purpose))
        connection.reconnect_callbacks.add(partial(_log_back, purpose))
        return connection

    async def _declare(self) -> None:
        async with self._channel() as channel:
            await declare_topology(channel)

    async def _restore(self, *_: object) -> None:
        """Declare the topology after a reconnection: the broker may have come back empty."""
        try:
            async with calling():
                await self._declare()
        except (*AWAY, BusUnavailable) as error:
            log.warning("topology_not_restored", error=str(error))

    async def _attach(self, declare: Declare, handler: Handler, prefetch: int) -> Consumer:
        """Attach a consumer, waiting for a connection that is just being restored."""
        consumer = Consumer(self._started(self._consuming), declare, handler, prefetch)
        await self._call(consumer.start())
        self._consumers = [*(known for known in self._consumers if not known.closed), consumer]
        return consumer

    @asynccontextmanager
    async def _channel(self) -> AsyncIterator[AbstractChannel]:
        """A channel of the consuming connection, for the length of the block."""
        connection = self._started(self._consuming)
        await self._call(connection.ready())
        channel = Channel(connection, publisher_confirms=False)
        await self._call(channel.initialize())
        try:
            yield channel
        finally:
            with suppress(*AWAY):
                async with calling():
                    await channel.close()

    async def _taken(self, channel: AbstractChannel, queue: str, limit: int) -> AsyncIterator[Delivery]:
        underlay = await channel.get_underlay_channel()
        for _ in range(limit):
            message = await self._call(underlay.basic_get(queue, timeout=CALL_TIMEOUT))
            if message.delivery_tag is None:  # the queue is empty
                return
            yield Delivery(message)

    async def _call(self, step: Awaitable[T]) -> T:
        """Await `step` for a bounded time. Raises BusUnavailable if the broker is away or refuses us."""
        try:
            async with calling():
                return await step
        except ProbableAuthenticationError as error:
            raise BusUnavailable(f"{self._address} refuses the user or the password of TREADLE_BUS_URL") from error
        except AWAY as error:
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


def _log_lost(purpose: str, connection: AbstractRobustConnection | None, error: BaseException | None) -> None:
    if connection is not None and not connection.close_called:
        log.warning("broker_lost", purpose=purpose, error=str(error) or type(error).__name__)


def _log_back(purpose: str, _: AbstractRobustConnection | None) -> None:
    log.info("broker_back", purpose=purpose)


async def _connect(connection: RobustConnection) -> None:
    """Connect. Raises ConnectionError if it is closed meanwhile; aio-pika would wait for ever."""
    connecting = asyncio.ensure_future(connection.connect(timeout=CONNECT_TIMEOUT))
    closed = asyncio.ensure_future(connection.closed())
    try:
        await asyncio.wait((connecting, closed), return_when=asyncio.FIRST_COMPLETED)
        if not connecting.done():
            raise ConnectionError("closed while it was being opened")
        connecting.result()
    finally:
        connecting.cancel()
        closed.cancel()


async def _disconnect(connection: RobustConnection) -> None:
    with suppress(*AWAY):
        async with calling(CLOSE_TIMEOUT):
            await connection.close()
