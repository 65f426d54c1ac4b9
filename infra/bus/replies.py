"""Requests under way, each known by its correlation id."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from uuid import uuid4

from infra.bus.port import Outgoing, PublishFailed, RequestTimedOut

Publish = Callable[[Outgoing], Awaitable[None]]


class Replies:
    """Who awaits which reply. One that nobody awaits any more is dropped."""

    def __init__(self, publish: Publish, reply_to: str) -> None:
        self._publish = publish
        self._reply_to = reply_to
        self._waiting: dict[str, asyncio.Future[bytes]] = {}

    async def request(self, message: Outgoing, timeout: float) -> bytes:
        """Publish, and await the reply; the request itself expires when its asker gives up."""
        correlation_id = message.correlation_id or uuid4().hex
        expires = timeout if message.expires is None else message.expires
        reply: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._waiting[correlation_id] = reply
        try:
            async with asyncio.timeout(timeout):
                await self._publish(
                    replace(message, correlation_id=correlation_id, reply_to=self._reply_to, expires=expires)
                )
                return await reply
        except TimeoutError as error:
            raise RequestTimedOut(f"no reply from {message.exchange}/{message.routing_key} in {timeout:g} s") from error
        finally:
            del self._waiting[correlation_id]

    def take(self, correlation_id: str | None, body: bytes) -> None:
        """A reply has come."""
        reply = self._waiting.get(correlation_id or "")
        if reply is not None and not reply.done():
            reply.set_result(body)

    def fail_all(self, error: PublishFailed) -> None:
        """Raise `error` to everyone who waits: the channel of the replies is gone."""
        for reply in self._waiting.values():
            if not reply.done():
                reply.set_exception(error)
                reply.exception()  # looked at: the request may fail by itself before it looks
