"""The bus on RabbitMQ, with one connection to consume and another to publish.

A broker that is short of memory or disk stops reading from a publishing connection, so acknowledgements are sent over
the other one.
"""

from __future__ import annotations

import asyncio
import random
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

from contracts.topology import QUEUES_BY_NAME
from infra.asyncio_tasks import cancel_and_wait, log_failure
from infra.bus.handling import GuardedHandler, listening
from infra.bus.poison import Poison
from infra.bus.port import BusUnavailable, Handler, IncomingMessage, OutgoingMessage, PublishFailed, Subscription
from infra.bus.rabbitmq.calls import BROKER_ERRORS, CALL_TIMEOUT, call_timeout
from infra.bus.rabbitmq.consumer import Bind, Consumer, Declare
from infra.bus.rabbitmq.declarations import look_up
from infra.bus.rabbitmq.libraries import configure_libraries
from infra.bus.rabbitmq.messages import Delivery
from infra.bus.rabbitmq.publisher import Publisher
from infra.bus.rabbitmq.requests import Requests
from infra.bus.rabbitmq.topology import Topology

HEARTBEAT = 15
"""Seconds; a connection is given up after about three intervals without data from the broker."""
CONNECT_TIMEOUT = 10.0
CLOSE_TIMEOUT = 5.0
RECONNECT_AFTER = 0.5
"""Seconds, as the two before."""
PRIVATE_PREFETCH = 100
CHECK_INTERVAL = 10.0
"""Seconds between two declarations of the topology, which restore what was deleted at the broker."""
NOT_STARTED = "the bus is not started"

T = TypeVar("T")
log = structlog.get_logger(__name__)


class RabbitMQBus:
    """A Bus on the broker at `url`; it may be started again after it was closed."""

    name = "rabbitmq"

    def __init__(self, url: str, *, check_interval: float = CHECK_INTERVAL) -> None:
        self.poison = Poison()
        self._url = url
        self._check_interval = check_interval
        self._topology = Topology(self._channel)
        self._checking: asyncio.Task[None] | None = None
        self._consuming: RobustConnection | None = None
        self._publishing: RobustConnection | None = None
        self._publisher: Publisher | None = None
        self._requests: Requests | None = None
        self._consumers: list[Consumer] = []

    async def start(self) -> None:
        """Open both connections and declare the topology, or check that it exists if the account may not declare it.

        Raises BusUnavailable if that fails; then both connections are closed.
        """
        try:
            await self._call(self._start())
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Disconnect; the broker then cancels the consumers and requeues the unsettled messages."""
        if self._checking is not None:
            await cancel_and_wait(self._checking)
            self._checking = None
        consumers, self._consumers = self._consumers, []
        for consumer in consumers:
            await consumer.abandon()
        connections = (self._consuming, self._publishing)
        self._consuming = self._publishing = self._publisher = self._requests = None
        for connection in connections:
            if connection is not None:
                await _disconnect(connection)

    async def publish(self, message: OutgoingMessage) -> None:
        """Publish and await the confirm. Raises PublishFailed or Unroutable."""
        if self._publisher is None:
            raise PublishFailed(NOT_STARTED)
        await self._publisher.publish(message)

    async def publish_all(self, messages: Sequence[OutgoingMessage]) -> list[PublishFailed | None]:
        """Publish all and await the confirms together."""
        if self._publisher is None:
            return [PublishFailed(NOT_STARTED) for _ in messages]
        return await self._publisher.publish_all(messages)

    async def consume(self, queue: str, handler: Handler, *, prefetch: int) -> Subscription:
        """Consume a queue of the topology."""
        definition = QUEUES_BY_NAME[queue]
        guarded = GuardedHandler(self, queue, handler, prefetch, keeps=definition.dead_letters)

        async def declare(channel: AbstractChannel) -> AbstractQueue:
            return await self._topology.queue(channel, definition)

        return await self._attach(declare, guarded, prefetch)

    async def listen(self, exchange: str, binding: str, handler: Handler) -> Subscription:
        """Consume a private queue bound to `exchange`; messages published during a disconnection are lost."""
        guarded = GuardedHandler(self, exchange, listening(handler), PRIVATE_PREFETCH, keeps=False, serial=True)

        async def declare(channel: AbstractChannel) -> AbstractQueue:
            return await self._topology.private_queue(channel, exchange, binding)

        async def bind(channel: AbstractChannel, queue: str) -> None:
            await self._topology.bind_private(channel, queue, exchange, binding)

        return await self._attach(declare, guarded, PRIVATE_PREFETCH, bind)

    async def request(self, message: OutgoingMessage, *, timeout: float) -> bytes:
        """Publish with direct reply-to and await the body of the reply."""
        if self._requests is None:
            raise PublishFailed(NOT_STARTED)
        return await self._requests.request(message, timeout)

    async def depth(self, queue: str) -> int:
        """The number of ready messages.

        The passive declaration uses a channel of its own, because a missing queue closes the channel.
        """
        async with self._channel() as channel:
            declared = await self._call(look_up(channel, queue))
            return declared.declaration_result.message_count or 0

    async def consumers(self, queue: str) -> int:
        """The number of consumers that the broker has for a shared queue."""
        async with self._channel() as channel:
            declared = await self._call(look_up(channel, queue))
            return declared.declaration_result.consumer_count or 0

    async def missing(self) -> dict[str, str]:
        """The exchanges and queues that do not exist, or why the topology cannot be declared."""
        missing = await self._call(self._topology.missing())
        return missing | ({"topology": self._topology.problem} if self._topology.problem else {})

    async def replace_outdated(self) -> set[str]:
        """Replace the empty queues that an earlier version declared; return the names of those that are not empty."""
        await self._call(self._topology.replace_outdated())
        return self._topology.outdated

    @asynccontextmanager
    async def browse(self, queue: str, limit: int) -> AsyncIterator[list[IncomingMessage]]:
        """Browse a shared queue on a channel of its own; if the process dies, the broker requeues the messages."""
        async with self._channel() as channel:
            await self._call(look_up(channel, queue))
            deliveries = [delivery async for delivery in self._get_messages(channel, queue, limit)]
            try:
                yield [delivery.incoming() for delivery in deliveries]
            finally:
                for delivery in deliveries:  # closing the channel would requeue them in any order
                    await delivery.requeue()

    async def _start(self) -> None:
        configure_libraries()
        self._consuming = self._connection("consume")
        self._publishing = self._connection("publish")
        for connection in (self._consuming, self._publishing):
            await _connect(connection)
        await self._topology.declare()
        self._consuming.reconnect_callbacks.add(self._redeclare)
        self._publisher = await Publisher.open(self._publishing, self._topology.restore)
        self._requests = await Requests.open(self._publishing, self._topology.restore)
        self._checking = asyncio.create_task(self._check_topology(), name="topology")
        log_failure(self._checking)

    def _connection(self, purpose: str) -> RobustConnection:
        """A connection that is not open yet; its name at the broker contains `purpose`."""
        connection = RobustConnection(
            URL(self._url).update_query(heartbeat=HEARTBEAT),  # RobustConnection ignores the keyword argument
            reconnect_interval=RECONNECT_AFTER,
            client_properties={"connection_name": f"treadle {purpose}"},
        )
        connection.close_callbacks.add(partial(_log_lost, purpose))
        connection.reconnect_callbacks.add(partial(_log_restored, purpose))
        return connection

    async def _redeclare(self, *_: object) -> None:
        """Declare the topology after a reconnection, in case the broker lost its data."""
        await self._topology.restore()

    async def _check_topology(self) -> None:
        """Declare the topology and check the consumers again and again, as nothing reports a lost binding."""
        while True:
            await asyncio.sleep(self._check_interval * random.uniform(0.8, 1.0))  # noqa: S311  # keeps no secret
            await self._topology.restore()
            try:
                async with self._channel() as channel:
                    for consumer in self._consumers:
                        await self._call(consumer.check(channel))
            except BusUnavailable as error:
                log.info("consumers_not_checked", error=str(error))

    async def _attach(
        self, declare: Declare, handler: GuardedHandler, prefetch: int, bind: Bind | None = None
    ) -> Consumer:
        """Attach a consumer, after a connection that is being restored is ready."""
        consumer = Consumer(self._require_started(self._consuming), declare, handler, prefetch, bind)
        await self._call(consumer.start())
        self._consumers = [*(existing for existing in self._consumers if not existing.closed), consumer]
        return consumer

    @asynccontextmanager
    async def _channel(self) -> AsyncIterator[AbstractChannel]:
        """Open a channel of the consuming connection during the block."""
        connection = self._require_started(self._consuming)
        await self._call(connection.ready())
        channel = Channel(connection, publisher_confirms=False)
        await self._call(channel.initialize())
        try:
            yield channel
        finally:
            with suppress(*BROKER_ERRORS):
                async with call_timeout():
                    await channel.close()

    async def _get_messages(self, channel: AbstractChannel, queue: str, limit: int) -> AsyncIterator[Delivery]:
        underlay = await channel.get_underlay_channel()
        for _ in range(limit):
            message = await self._call(underlay.basic_get(queue, timeout=CALL_TIMEOUT))
            if message.delivery_tag is None:  # the queue is empty
                return
            yield Delivery(message)

    async def _call(self, call: Awaitable[T]) -> T:
        """Await `call` with a time limit. Raises BusUnavailable if the broker is unreachable or refuses it."""
        try:
            async with call_timeout():
                return await call
        except ProbableAuthenticationError as error:
            raise BusUnavailable(f"{self._address} refuses the user or the password in TREADLE_BUS_URL") from error
        except BROKER_ERRORS as error:
            raise BusUnavailable(
                f"RabbitMQ at {self._address} does not answer ({error or type(error).__name__}): "
                "check that it is running and that TREADLE_BUS_URL is correct"
            ) from error

    @property
    def _address(self) -> str:
        """The address of the broker, without user and password."""
        parts = urlsplit(self._url)
        return f"{parts.scheme}://{parts.hostname}:{parts.port or 5672}{parts.path or '/'}"

    def _require_started(self, part: T | None) -> T:
        if part is None:
            raise BusUnavailable(NOT_STARTED)
        return part


def _log_lost(purpose: str, connection: AbstractRobustConnection | None, error: BaseException | None) -> None:
    if connection is not None and not connection.close_called:
        log.warning("broker_lost", purpose=purpose, error=str(error) or type(error).__name__)


def _log_restored(purpose: str, _: AbstractRobustConnection | None) -> None:
    log.info("broker_reconnected", purpose=purpose)


async def _connect(connection: RobustConnection) -> None:
    """Connect. Raises ConnectionError if the connection is closed meanwhile; aio-pika would wait forever."""
    connecting = asyncio.ensure_future(connection.connect(timeout=CONNECT_TIMEOUT))
    closed = asyncio.ensure_future(connection.closed())
    try:
        await asyncio.wait((connecting, closed), return_when=asyncio.FIRST_COMPLETED)
        if not connecting.done():
            raise ConnectionError("the connection was closed while it was being opened")
        connecting.result()
    finally:
        connecting.cancel()
        closed.cancel()


async def _disconnect(connection: RobustConnection) -> None:
    with suppress(*BROKER_ERRORS):
        async with call_timeout(CLOSE_TIMEOUT):
            await connection.close()
