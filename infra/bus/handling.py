"""What both adapters do around a handler: a fault in it loses no message and stops no consumer."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from infra.bus.port import Handler, Incoming

FAILED_HANDLER_PAUSE = 1.0
"""Before a message whose handler raised is given back: without it a poison message spins."""

log = structlog.get_logger(__name__)


async def guarded(handler: Handler, read: Callable[[], Incoming], give_back: Callable[[], Awaitable[None]]) -> None:
    """Read a message and handle it; if that raises, log it, pause, and give the message back."""
    message = None
    try:
        message = read()
        await handler(message)
    except Exception:  # the boundary between the bus and whatever a handler may raise
        log.exception("handler_failed", message_id=message and message.message_id)
        await asyncio.sleep(FAILED_HANDLER_PAUSE)
        await give_back()


def serial(handler: Handler) -> Handler:
    """`handler`, called for one message at a time in order of arrival. Each is then settled, even one that failed."""
    turn = asyncio.Lock()

    async def handle(message: Incoming) -> None:
        async with turn:
            try:
                await handler(message)
            except Exception:  # a listener's fault must neither end its subscription nor bring the message again
                log.exception("listener_failed", routing_key=message.routing_key, message_id=message.message_id)
        await message.ack()

    return handle
