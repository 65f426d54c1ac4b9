"""Error handling around a message handler, for both adapters: no message is lost and no consumer stops."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from infra.bus.port import Handler, IncomingMessage

FAILED_HANDLER_PAUSE = 1.0
"""Seconds before a message whose handler raised is requeued, so that it is not redelivered in a tight loop."""

log = structlog.get_logger(__name__)


async def guarded(
    handler: Handler, read: Callable[[], IncomingMessage], requeue: Callable[[], Awaitable[None]]
) -> None:
    """Read a message and handle it; if either raises, log the error, pause, and requeue the message."""
    message = None
    try:
        message = read()
        await handler(message)
    except Exception:  # a handler may raise anything
        log.exception("handler_failed", message_id=message and message.message_id)
        await asyncio.sleep(FAILED_HANDLER_PAUSE)
        await requeue()


def serial(handler: Handler) -> Handler:
    """Wrap `handler` to handle one message at a time, in order of arrival, and acknowledge each even if it raises."""
    lock = asyncio.Lock()

    async def handle(message: IncomingMessage) -> None:
        async with lock:
            try:
                await handler(message)
            except Exception:  # an error must neither end the subscription nor cause a redelivery
                log.exception("listener_failed", routing_key=message.routing_key, message_id=message.message_id)
        await message.ack()

    return handle
