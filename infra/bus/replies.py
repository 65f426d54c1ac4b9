"""Request and reply: one private queue a bus, and a correlation id a request."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Protocol
from uuid import uuid4

from infra.bus.port import BusUnavailable, Handler, Incoming, Outgoing, PublishFailed, RequestTimedOut


class ReplyConsumer(Protocol):
    """A consumer on a private queue."""

    @property
    def queue(self) -> str:
        """The queue's name; it may change when the consumer is restored."""
        ...

    @property
    def attached(self) -> bool:
        """Whether the bus has it at the moment."""
        ...


Publish = Callable[[Outgoing], Awaitable[None]]
Listen = Callable[[Handler], Awaitable[ReplyConsumer]]


class Replies:
    """Requests under way. A reply that nobody awaits any more is dropped."""

    def __init__(self, publish: Publish, listen: Listen) -> None:
        self._publish = publish
        self._listen = listen
        self._waiting: dict[str, asyncio.Future[bytes]] = {}
        self._consumer: ReplyConsumer | None = None
        self._starting = asyncio.Lock()

    async def request(self, message: Outgoing, timeout: float) -> bytes:
        """Publish, and await the reply; the request itself expires when its asker gives up."""
        correlation_id = message.correlation_id or uuid4().hex
        reply: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._waiting[correlation_id] = reply
        try:
            async with asyncio.timeout(timeout):
                reply_to = await self._reply_queue()
                expires = timeout if message.expires is None else message.expires
                await self._publish(replace(message, correlation_id=correlation_id, reply_to=reply_to, expires=expires))
                return await reply
        except TimeoutError as error:
            raise RequestTimedOut(f"no reply from {message.exchange}/{message.routing_key} in {timeout:g} s") from error
        finally:
            del self._waiting[correlation_id]

    async def _reply_queue(self) -> str:
        async with self._starting:
            if self._consumer is None:
                self._consumer = await self._start()
        if not self._consumer.attached:
            raise PublishFailed("the reply queue is being restored: ask again")
        return self._consumer.queue

    async def _start(self) -> ReplyConsumer:
        try:
            return await self._listen(self._take)
        except BusUnavailable as error:
            raise PublishFailed(f"no reply queue: {error}") from error

    async def _take(self, message: Incoming) -> None:
        reply = self._waiting.get(message.correlation_id or "")
        if reply is not None and not reply.done():
            reply.set_result(message.body)
        await message.ack()
