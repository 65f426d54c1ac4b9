"""Publishing with retries until the broker confirms."""

from __future__ import annotations

from functools import partial

from infra.bus.dead_letter import dead_letter
from infra.bus.port import Bus, IncomingMessage, OutgoingMessage, PublishFailed
from infra.retry import retry

MAX_RETRY_PAUSE = 5.0
"""Seconds."""


async def publish_until_confirmed(bus: Bus, message: OutgoingMessage) -> None:
    """Publish a message, with retries until the broker confirms."""
    await retry(partial(bus.publish, message), PublishFailed, max_pause=MAX_RETRY_PAUSE)


async def dead_letter_until_confirmed(bus: Bus, message: IncomingMessage, queue: str, reason: str, cause: str) -> None:
    """Dead-letter a message, with retries until the broker confirms, then acknowledge it."""
    await retry(partial(dead_letter, bus, message, queue, reason, cause), PublishFailed, max_pause=MAX_RETRY_PAUSE)
