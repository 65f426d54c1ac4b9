"""Requests by direct reply-to: the reply arrives on the channel that sent the request, without a queue."""

from __future__ import annotations

from typing import Self

from aio_pika import RobustConnection
from aio_pika.abc import AbstractIncomingMessage, AbstractRobustChannel

from infra.bus.port import OutgoingMessage, PublishFailed
from infra.bus.rabbitmq.publisher import Publisher, Restore
from infra.bus.replies import Replies

DIRECT_REPLY_TO = "amq.rabbitmq.reply-to"
"""A name that is no queue; the broker replaces it with the address of the publishing channel."""


class Requests:
    """Sends requests and awaits their replies, on a channel of its own."""

    def __init__(self, publisher: Publisher, channel: AbstractRobustChannel) -> None:
        self._publisher = publisher
        self._channel = channel
        self._replies = Replies(self._publish, DIRECT_REPLY_TO)
        self._consuming = False

    @classmethod
    async def open(cls, connection: RobustConnection, restore: Restore) -> Self:
        """Open a channel that consumes replies, also after each reconnection."""
        channel = connection.channel(on_return_raises=True)
        await channel.initialize()
        self = cls(Publisher(connection, channel, restore), channel)
        channel.close_callbacks.add(self._on_closed)
        channel.reopen_callbacks.add(self._consume_replies)
        await self._consume_replies()
        return self

    async def request(self, message: OutgoingMessage, timeout: float) -> bytes:
        """Publish, and await the body of the reply for at most `timeout` seconds.

        Raises RequestTimedOut if no reply arrives in time, and PublishFailed.
        """
        return await self._replies.request(message, timeout)

    async def _publish(self, message: OutgoingMessage) -> None:
        if not self._consuming:
            raise PublishFailed(f"{message.exchange}/{message.routing_key}: not connected to the broker")
        await self._publisher.publish(message)

    async def _consume_replies(self, *_: object) -> None:
        queue = await self._channel.get_queue(DIRECT_REPLY_TO, ensure=False)
        await queue.consume(self._on_reply, no_ack=True)
        self._consuming = True

    async def _on_reply(self, message: AbstractIncomingMessage) -> None:
        self._replies.take(message.correlation_id, message.body)

    def _on_closed(self, *_: object) -> None:
        self._consuming = False
        self._replies.fail_all(PublishFailed("the channel was lost before the reply"))
