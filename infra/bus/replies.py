"""Pending requests by correlation id."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from uuid import uuid4

from infra.bus.port import OutgoingMessage, PublishFailed, RequestTimedOut

Publish = Callable[[OutgoingMessage], Awaitable[None]]


class Replies:
    """Publishes requests and assigns each reply to its request; a reply without a pending request is ignored."""

    def __init__(self, publish: Publish, reply_to: str) -> None:
        self._publish = publish
        self._reply_to = reply_to
        self._pending: dict[str, asyncio.Future[bytes]] = {}

    async def request(self, message: OutgoingMessage, timeout: float) -> bytes:
        """Publish a request and await the body of its reply.

        Unless `message.expires` says otherwise, the request expires after `timeout` seconds. Raises RequestTimedOut if
        no reply arrives within that time, and what publishing raises.
        """
        correlation_id = message.correlation_id or uuid4().hex
        expires = timeout if message.expires is None else message.expires
        reply: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._pending[correlation_id] = reply
        try:
            async with asyncio.timeout(timeout):
                await self._publish(
                    replace(message, correlation_id=correlation_id, reply_to=self._reply_to, expires=expires)
                )
                return await reply
        except TimeoutError as error:
            destination = f"{message.exchange}/{message.routing_key}"
            raise RequestTimedOut(f"no reply from {destination} within {timeout:g} s") from error
        finally:
            del self._pending[correlation_id]

    def take(self, correlation_id: str | None, body: bytes) -> None:
        """Deliver a received reply to its request."""
        reply = self._pending.get(correlation_id or "")
        if reply is not None and not reply.done():
            reply.set_result(body)

    def fail_all(self, error: PublishFailed) -> None:
        """Make every pending request raise `error`, because the channel for the replies is lost."""
        for reply in self._pending.values():
            if not reply.done():
                reply.set_exception(error)
                reply.exception()  # mark as retrieved: a request that fails earlier never awaits its reply
