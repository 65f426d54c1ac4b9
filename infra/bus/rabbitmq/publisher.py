"""Publishing with confirms. What is not confirmed in time has failed, and may be published again."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import aiormq
from aio_pika.abc import AbstractRobustChannel, AbstractRobustConnection
from aio_pika.exceptions import CONNECTION_EXCEPTIONS, DeliveryError, PublishError

from infra.bus.port import Outgoing, PublishFailed, Unroutable
from infra.bus.rabbitmq.messages import to_properties
from infra.tasks import was_cancelled

PUBLISH_TIMEOUT = 10.0


class Publisher:
    """A channel with confirms. The robust connection opens it again after a loss."""

    def __init__(self, connection: AbstractRobustConnection, channel: AbstractRobustChannel) -> None:
        self._connection = connection
        self._channel = channel

    @classmethod
    async def open(cls, connection: AbstractRobustConnection) -> Publisher:
        """A publisher on a channel of its own."""
        channel = connection.channel(on_return_raises=True)
        await channel.initialize()
        return cls(connection, channel)

    async def publish(self, message: Outgoing) -> None:
        """Publish and await the confirm. Raises Unroutable, or PublishFailed, at once if the broker is away."""
        where = f"{message.exchange or 'queue'}/{message.routing_key}"
        try:
            await self._send(message, where)
        except PublishError as error:
            raise Unroutable(f"{where}: no queue takes it") from error
        except DeliveryError as error:
            raise PublishFailed(f"{where}: the broker refused it; its queue is full or has no leader") from error
        except TimeoutError as error:
            raise PublishFailed(f"{where}: not confirmed within {PUBLISH_TIMEOUT:g} s") from error
        except CONNECTION_EXCEPTIONS as error:
            raise PublishFailed(f"{where}: {error or type(error).__name__}") from error
        except asyncio.CancelledError as error:
            if was_cancelled():
                raise
            raise PublishFailed(f"{where}: the connection was lost before the confirm") from error

    async def publish_all(self, messages: Sequence[Outgoing]) -> list[PublishFailed | None]:
        """Publish all and await the confirms together, about six times faster than one by one."""
        return await asyncio.gather(*(self._outcome(message) for message in messages))

    async def _outcome(self, message: Outgoing) -> PublishFailed | None:
        try:
            await self.publish(message)
        except PublishFailed as error:
            return error
        return None

    async def _send(self, message: Outgoing, where: str) -> None:
        """Queue the frames without awaiting that they are written, and await the confirm.

        Awaiting the writing would hold the channel's lock, and so publish one message after the other.
        """
        if self._channel.is_closed:
            raise PublishFailed(f"{where}: the broker is away")
        if await self._blocked():
            raise PublishFailed(f"{where}: the broker takes no messages; it is short of memory or disk")
        channel = await self._channel.get_underlay_channel()
        assert isinstance(channel, aiormq.Channel), "the abstract class does not have `wait`"
        await channel.basic_publish(
            message.body,
            exchange=message.exchange,
            routing_key=message.routing_key,
            properties=to_properties(message),
            mandatory=message.mandatory,
            timeout=PUBLISH_TIMEOUT,
            wait=False,
        )

    async def _blocked(self) -> bool:
        """Whether the broker has stopped to read from this connection: frames sent now would pile up here."""
        if self._connection.transport is None:
            return False
        try:
            async with asyncio.timeout(0):
                await self._connection.transport.ready()
        except TimeoutError:
            return True
        return False
