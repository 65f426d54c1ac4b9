"""Requests by direct reply-to: the reply comes back on the channel that sent the request, through no queue."""

from __future__ import annotations

from typing import Self

from aio_pika.abc import AbstractIncomingMessage, AbstractRobustChannel, AbstractRobustConnection

from infra.bus.port import Outgoing, PublishFailed
from infra.bus.rabbitmq.publisher import Publisher
from infra.bus.replies import Replies

DIRECT = "amq.rabbitmq.reply-to"
"""A name that the broker replaces by the address of the channel that publishes; it is no queue."""


class Requests:
    """Sends requests and awaits their replies, on a channel of its own."""

    def __init__(self, publisher: Publisher, channel: AbstractRobustChannel) -> None:
        self._publisher = publisher
        self._channel = channel
        self._replies = Replies(self._publish, DIRECT)
        self._listening = False

    @classmethod
    async def open(cls, connection: AbstractRobustConnection) -> Self:
        """A channel that listens for replies, also after each reconnection."""
        channel = connection.channel(on_return_raises=True)
        await channel.initialize()
        self = cls(Publisher(connection, channel), channel)
        channel.close_callbacks.add(self._closed)
        channel.reopen_callbacks.add(self._listen)
        await self._listen()
        return self

    async def request(self, message: Outgoing, timeout: float) -> bytes:
        """Publish, and await the reply's body. Raises RequestTimedOut, PublishFailed."""
        return await self._replies.request(message, timeout)

    async def _publish(self, message: Outgoing) -> None:
        if not self._listening:
            raise PublishFailed(f"{message.exchange}/{message.routing_key}: the broker is away")
        await self._publisher.publish(message)

    async def _listen(self, *_: object) -> None:
        queue = await self._channel.get_queue(DIRECT, ensure=False)
        await queue.consume(self._receive, no_ack=True)
        self._listening = True

    async def _receive(self, message: AbstractIncomingMessage) -> None:
        self._replies.take(message.correlation_id, message.body)

    def _closed(self, *_: object) -> None:
        self._listening = False
        self._replies.fail_all(PublishFailed("the channel was lost before the reply"))
