"""What a worker must get published, it publishes for as long as it takes."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable

import structlog

from infra.bus.dead import dead_letter
from infra.bus.port import Bus, Incoming, Outgoing, PublishFailed

FIRST_WAIT, LONGEST_WAIT = 0.1, 5.0
"""Seconds: at most so long until the second try, and until any later one."""

log = structlog.get_logger(__name__)


async def publish(bus: Bus, message: Outgoing, failed: Callable[[], None] = lambda: None) -> None:
    """Publish until the broker confirms; `failed` is called whenever it does not."""
    await _until_confirmed(lambda: bus.publish(message), failed)


async def bury(bus: Bus, message: Incoming, queue: str, reason: str) -> None:
    """Dead-letter a message that nobody here understands; it is settled once the broker has the copy."""
    await _until_confirmed(lambda: dead_letter(bus, message, queue, reason), lambda: None)


async def _until_confirmed(send: Callable[[], Awaitable[None]], failed: Callable[[], None]) -> None:
    """Try, then again after a random part of a wait that doubles. Nothing but the call is made where all is well."""
    wait = FIRST_WAIT
    while True:
        try:
            return await send()
        except PublishFailed as error:
            log.warning("waiting_for_the_broker", error=str(error))
            failed()
        await asyncio.sleep(random.uniform(0, wait))  # noqa: S311  # it keeps no secret
        wait = min(2 * wait, LONGEST_WAIT)
