"""The bus on RabbitMQ, by pika: one connection to consume, another to publish.

Apart, because a broker that is short of memory or disk blocks a publishing connection whole, acknowledgements included.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Sequence
from contextlib import asynccontextmanager
from typing import TypeVar
from urllib.parse import urlsplit

import structlog
from pika.exceptions import AuthenticationError, ProbableAccessDeniedError, ProbableAuthenticationError

from infra.bus.handling import serial
from infra.bus.port import BusUnavailable, Handler, Incoming, Outgoing, PublishFailed, Subscription
from infra.bus.rabbitmq_channel import AWAY, Channel
from infra.bus.rabbitmq_consumer import Consumer, Declare
from infra.bus.rabbitmq_delivery import to_incoming
from infra.bus.rabbitmq_link import Link
from infra.bus.rabbitmq_publisher import Publisher
from infra.bus.rabbitmq_requests import Requests
from infra.bus.rabbitmq_settling import Settling
from infra.bus.rabbitmq_sharing import unpack
from infra.bus.rabbitmq_topology import BY_NAME, declare_private, declare_shared, declare_topology, depth

CALL_TIMEOUT = 15.0
PRIVATE_PREFETCH = 100
NOT_STARTED = "the bus is not started"
REFUSED = (AuthenticationError, ProbableAccessDeniedError, ProbableAuthenticationError)


async def _never() -> None:
    raise AssertionError("a part that is only published again is settled by nobody")


NEVER = (_never, _never)
T = TypeVar("T")
log = structlog.get_logger(__name__)


class RabbitMQBus:
    """A Bus on the broker at `url`. It may be started again after it was closed."""

    name = "rabbitmq"

    def __init__(self, url: str) -> None:
        self._url = url
        self._consuming: Link | None = None
        self._publishing: Link | None = None
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
        """Disconnect: the broker cancels the consumers, and has back what was not settled."""
        consumers, self._consumers = self._consumers, []
        for consumer in consumers:
            await consumer.abandon()
        senders, links = (self._publisher, self._requests), (self._consuming, self._publishing)
        self._consuming = self._publishing = self._publisher = self._requests = None
        for sender in senders:
            if sender is not None:
                await sender.stop()
        for link in links:
            if link is not None:
                await link.close()

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

        async def declare(channel: Channel) -> str:
            return await declare_shared(channel, spec)

        return await self._attach(declare, handler, prefetch)

    async def listen(self, exchange: str, binding: str, handler: Handler) -> Subscription:
        """Consume a private queue bound to `exchange`. What is published while we are disconnected is missed."""

        async def declare(channel: Channel) -> str:
            return await declare_private(channel, exchange, binding)

        return await self._attach(declare, serial(handler), PRIVATE_PREFETCH)

    async def request(self, message: Outgoing, *, timeout: float) -> bytes:
        """Publish and await the reply; the publication is not confirmed."""
        if self._requests is None:
            raise PublishFailed(NOT_STARTED)
        return await self._requests.request(message, timeout)

    async def depth(self, queue: str) -> int:
        """Messages ready, by a passive declaration on a channel of its own, which a missing queue closes."""
        channel = await self._call(self._channel())
        try:
            return await self._call(depth(channel, queue))
        finally:
            channel.close()

    @asynccontextmanager
    async def browse(self, queue: str, limit: int) -> AsyncIterator[list[Incoming]]:
        """Browse a shared queue, on a channel of its own. A process that dies in the block gives everything back."""
        channel = await self._call(self._channel())
        settling = Settling(channel, limit)
        try:
            await self._call(depth(channel, queue))
            taken = [message async for message in self._taken(channel, queue, settling, limit)]
            try:
                yield taken
            finally:
                for message in taken:  # one by one: closing the channel would return them in no order
                    await message.requeue()
        finally:
            settling.flush()
            channel.close()

    async def _start(self) -> None:
        consuming = self._consuming = Link(self._url, "consume")
        publishing = self._publishing = Link(self._url, "publish")
        publisher = self._publisher = Publisher(publishing)
        requests = self._requests = Requests(publishing)
        await consuming.start()
        await publishing.start()
        await self._declare()
        consuming.on_back(self._restore)
        await publisher.start()
        await requests.start()

    async def _declare(self) -> None:
        channel = await self._channel()
        try:
            await declare_topology(channel)
        finally:
            channel.close()

    async def _restore(self) -> None:
        """The broker may come back empty."""
        try:
            await self._declare()
        except (*AWAY, BusUnavailable, TimeoutError) as error:
            log.warning("topology_not_restored", error=str(error))

    async def _attach(self, declare: Declare, handler: Handler, prefetch: int) -> Consumer:
        """Attach a consumer, waiting for a connection that is just being restored."""
        consumer = Consumer(self._started(self._consuming), declare, handler, prefetch)
        await self._call(consumer.start())
        self._consumers = [*(known for known in self._consumers if not known.finished), consumer]
        return consumer

    async def _channel(self) -> Channel:
        return await self._started(self._consuming).channel()

    async def _taken(self, channel: Channel, queue: str, settling: Settling, limit: int) -> AsyncIterator[Incoming]:
        for _ in range(limit):
            found = await self._call(channel.get(queue))
            if found is None:
                return
            method, properties, body = found
            settling.add(method.delivery_tag)
            parts = unpack(properties, body)
            if len(parts) > 1:
                await self._take_apart(queue, [to_incoming(method, *part, *NEVER) for part in parts])
                settling.ack(method.delivery_tag)
            else:
                yield to_incoming(method, properties, body, *settling.for_one(method.delivery_tag))

    async def _take_apart(self, queue: str, parts: Sequence[Incoming]) -> None:
        """Put messages that came together into their queue again, each by itself: one may go, and the others stay."""
        again = [Outgoing("", queue, part.body, part.message_id or "", part.headers) for part in parts]
        for refused in await self.publish_all(again):
            if refused is not None:
                raise BusUnavailable(f"messages in {queue} that share one could not be taken apart: {refused}")

    async def _call(self, step: Awaitable[T]) -> T:
        """Await `step` for a bounded time, and say in one kind of error that the broker is not there."""
        try:
            async with asyncio.timeout(CALL_TIMEOUT):
                return await step
        except REFUSED as error:
            raise BusUnavailable(f"{self._address} refuses the user or the password of TREADLE_BUS_URL") from error
        except (*AWAY, TimeoutError) as error:
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
