"""Publishing with confirms on RabbitMQ. What is not confirmed in time has failed, and may be published again."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import aiormq
from aio_pika.abc import AbstractRobustChannel
from aio_pika.exceptions import CONNECTION_EXCEPTIONS, ChannelInvalidStateError, DeliveryError, PublishError

from infra.bus.port import Outgoing, PublishFailed, Unroutable
from infra.bus.rabbitmq_delivery import to_amqp

PUBLISH_TIMEOUT = 10.0


class Publisher:
    """The publishing end of a channel that has confirms, and that raises for what comes back."""

    def __init__(self, channel: AbstractRobustChannel) -> None:
        self._channel = channel

    async def publish(self, message: Outgoing) -> None:
        """Publish and await the confirm. While the broker is away it fails at once, rather than wait unseen."""
        where = f"{message.exchange or 'queue'}/{message.routing_key}"
        try:
            async with asyncio.timeout(PUBLISH_TIMEOUT):
                await self._send(message)
        except PublishError as error:
            raise Unroutable(f"{where}: no queue takes it") from error
        except DeliveryError as error:
            raise PublishFailed(f"{where}: the broker refused it; its queue is full or has no leader") from error
        except TimeoutError as error:
            raise PublishFailed(f"{where}: not confirmed within {PUBLISH_TIMEOUT:g} s") from error
        except CONNECTION_EXCEPTIONS as error:
            raise PublishFailed(f"{where}: {error or type(error).__name__}") from error
        except asyncio.CancelledError as error:
            if _cancelled_by_caller():
                raise
            raise PublishFailed(f"{where}: the connection was closed") from error

    async def publish_all(self, messages: Sequence[Outgoing]) -> list[PublishFailed | None]:
        """Publish all and await the confirms together, about six times faster than one by one."""
        return list(await asyncio.gather(*(self._outcome(message) for message in messages)))

    async def _outcome(self, message: Outgoing) -> PublishFailed | None:
        try:
            await self.publish(message)
        except PublishFailed as error:
            return error
        return None

    async def _send(self, message: Outgoing) -> None:
        """Hand the frames over without awaiting that they are written, and await the confirm.

        Awaiting the writing holds the channel's lock through four turns of the loop, so that publications queue up.
        """
        if self._channel.is_closed:
            raise ChannelInvalidStateError("the channel is closed")
        channel = await self._channel.get_underlay_channel()
        assert isinstance(channel, aiormq.Channel), "the abstract one does not know of `wait`"
        amqp = to_amqp(message)
        await channel.basic_publish(
            amqp.body,
            exchange=message.exchange,
            routing_key=message.routing_key,
            properties=amqp.properties,
            mandatory=message.mandatory,
            wait=False,
        )


def _cancelled_by_caller() -> bool:
    """Whether this task is meant; aiormq also cancels what waits on a channel that is closed."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
