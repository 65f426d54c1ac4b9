"""A worker publishes an event, or a dead letter, for as long as it takes."""

from __future__ import annotations

from functools import partial

from infra.bus.dead_letter import dead_letter
from infra.bus.port import Bus, Incoming, Outgoing, PublishFailed
from infra.retry import retry

LONGEST_PAUSE = 5.0


async def publish(bus: Bus, message: Outgoing) -> None:
    """Publish until the broker confirms."""
    await retry(partial(bus.publish, message), PublishFailed, longest=LONGEST_PAUSE)


async def bury(bus: Bus, message: Incoming, queue: str, reason: str) -> None:
    """Dead-letter a message that this worker does not understand, and settle it once the broker has the copy."""
    await retry(partial(dead_letter, bus, message, queue, reason), PublishFailed, longest=LONGEST_PAUSE)
