"""Requests on RabbitMQ, by direct reply-to: a reply comes back on the channel that asked, through no queue.

Nothing is confirmed here: the reply tells that the request arrived, and whoever has none in time asks again.
"""

from __future__ import annotations

import asyncio

from pika.spec import Basic, BasicProperties

from infra.bus.port import Outgoing, PublishFailed, Unroutable
from infra.bus.rabbitmq_channel import Channel, restoring
from infra.bus.rabbitmq_link import Link
from infra.bus.rabbitmq_sending import send
from infra.bus.replies import Replies
from infra.ending import end

DIRECT = "amq.rabbitmq.reply-to"
"""Not a queue: the broker puts the way to the channel that asked in its place."""


class Requests:
    """The asking end of a connection."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._channel: Channel | None = None
        self._replies = Replies(self._send, DIRECT)
        self._restoring: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Open the channel, and again after every loss. Raises what the broker says."""
        channel = await self._attach()
        self._restoring = restoring(self._attach, channel, "requests")

    async def stop(self) -> None:
        """Ask no more."""
        self._channel = None
        if self._restoring is not None:
            await end(self._restoring)

    async def request(self, message: Outgoing, timeout: float) -> bytes:
        """Publish, and await the reply's body. Raises RequestTimedOut, PublishFailed."""
        return await self._replies.request(message, timeout)

    async def _send(self, message: Outgoing) -> None:
        send(self._link, self._channel, message)

    async def _attach(self) -> Channel:
        channel = await self._link.channel()
        channel.raw.add_on_return_callback(self._returned)
        try:
            await channel.ask(lambda done: channel.raw.basic_consume(DIRECT, self._take, auto_ack=True, callback=done))
        except BaseException:
            channel.close()
            raise
        channel.on_end(lambda: self._replies.fail_all(PublishFailed("the channel was lost before the reply")))
        self._channel = channel
        return channel

    def _take(self, _: object, __: object, properties: BasicProperties, body: bytes) -> None:
        self._replies.take(properties.correlation_id, body)

    def _returned(self, _: object, method: Basic.Return, properties: BasicProperties, __: bytes) -> None:
        unroutable = Unroutable(f"{method.exchange or 'queue'}/{method.routing_key}: no queue takes it")
        self._replies.fail(properties.correlation_id, unroutable)
