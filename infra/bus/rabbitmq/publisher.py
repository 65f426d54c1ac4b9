"""Publishing with confirms; a message that is not confirmed in time has failed and may be published again."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import nullcontext, suppress
from weakref import WeakValueDictionary

import aiormq
from aio_pika import RobustConnection
from aio_pika.abc import AbstractRobustChannel
from aio_pika.exceptions import CONNECTION_EXCEPTIONS, ChannelNotFoundEntity, DeliveryError, PublishError

from infra.asyncio_tasks import was_cancelled
from infra.bus.port import OutgoingMessage, PublishFailed, Unroutable
from infra.bus.rabbitmq.messages import to_properties

PUBLISH_TIMEOUT = 10.0
"""Seconds."""

Restore = Callable[[float], Awaitable[bool]]
"""Declares the topology again, unless that was done after this time; returns whether that was done."""


class Publisher:
    """Publishes on a channel with confirms, which the robust connection reopens after a loss."""

    def __init__(self, connection: RobustConnection, channel: AbstractRobustChannel, restore: Restore) -> None:
        self._connection = connection
        self._channel = channel
        self._restore = restore
        self._account = connection.url.user
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        """A lock for each message id in flight: aiormq would mistake one of two with the same id for the other."""

    @classmethod
    async def open(cls, connection: RobustConnection, restore: Restore) -> Publisher:
        """Create a publisher with a channel of its own."""
        channel = connection.channel(on_return_raises=True)
        await channel.initialize()
        return cls(connection, channel, restore)

    async def publish(self, message: OutgoingMessage) -> None:
        """Publish and await the confirm. Raises Unroutable, or PublishFailed, at once if the connection is lost.

        If no queue or no exchange takes the message, the topology is declared, and the message published once more.
        """
        began = time.monotonic()
        try:
            await self._publish(message)
        except Unroutable:
            if not await self._restore(began):
                raise
            await self._until_open()
            await self._publish(message)

    async def _until_open(self) -> None:
        """Wait until the channel is open again, which a missing exchange has closed."""
        with suppress(TimeoutError):
            async with asyncio.timeout(PUBLISH_TIMEOUT):
                await self._channel.ready()

    async def _publish(self, message: OutgoingMessage) -> None:
        destination = f"{message.exchange or 'queue'}/{message.routing_key}"
        try:
            await self._send(message, destination)
        except PublishError as error:
            raise Unroutable(f"{destination}: no queue is bound for this key") from error
        except ChannelNotFoundEntity as error:
            raise Unroutable(f"{destination}: {error}") from error
        except DeliveryError as error:
            raise PublishFailed(
                f"{destination}: the broker refused it, as its queue is full or has no leader"
            ) from error
        except TimeoutError as error:
            raise PublishFailed(f"{destination}: not confirmed within {PUBLISH_TIMEOUT:g} s") from error
        except CONNECTION_EXCEPTIONS as error:
            raise PublishFailed(f"{destination}: {error or type(error).__name__}") from error
        except asyncio.CancelledError as error:
            if was_cancelled():
                raise
            raise PublishFailed(f"{destination}: the connection was lost before the confirm") from error

    async def publish_all(self, messages: Sequence[OutgoingMessage]) -> list[PublishFailed | None]:
        """Publish all and await the confirms together, which is faster than one at a time."""
        return await asyncio.gather(*(self._outcome(message) for message in messages))

    async def _outcome(self, message: OutgoingMessage) -> PublishFailed | None:
        try:
            await self.publish(message)
        except PublishFailed as error:
            return error
        return None

    async def _send(self, message: OutgoingMessage, destination: str) -> None:
        """Queue the frames, and await the confirm but not the write.

        Awaiting the write would hold the lock of the channel, so messages would be published one at a time.
        """
        if self._channel.is_closed:
            raise PublishFailed(f"{destination}: not connected to the broker")
        if await self._blocked():
            raise PublishFailed(f"{destination}: the broker accepts no messages because it is short of memory or disk")
        channel = await self._channel.get_underlay_channel()
        assert isinstance(channel, aiormq.Channel), "the abstract class has no parameter `wait`"
        alone = self._locks.setdefault(message.message_id, asyncio.Lock()) if message.message_id else nullcontext()
        async with asyncio.timeout(PUBLISH_TIMEOUT), alone:
            await channel.basic_publish(
                message.body,
                exchange=message.exchange,
                routing_key=message.routing_key,
                properties=to_properties(message, self._account),
                mandatory=message.mandatory,
                timeout=PUBLISH_TIMEOUT,
                wait=False,
            )

    async def _blocked(self) -> bool:
        """Whether the broker has stopped reading from this connection, so that new frames would accumulate here."""
        if self._connection.transport is None:
            return False
        try:
            async with asyncio.timeout(0):
                await self._connection.transport.ready()
        except TimeoutError:
            return True
        return False
