"""Dead-lettering by hand: what cannot be handled is kept, with its reason, before it is settled."""

from __future__ import annotations

import structlog

from contracts.topology import DEAD
from infra.bus.port import Bus, Incoming, Outgoing

REASON = "x-treadle-reason"
QUEUE = "x-treadle-queue"
REPLAYS = "x-treadle-replays"
"""How often a person has sent it back to where it died."""
BROKER_REASON = "x-first-death-reason"
BROKER_QUEUE = "x-first-death-queue"
"""What the broker writes where it gave a message up itself."""
LONGEST_REASON = 2000

log = structlog.get_logger(__name__)


async def dead_letter(bus: Bus, message: Incoming, queue: str, reason: str) -> None:
    """Publish `message` to the dead letters with its reason, await the confirm, then settle it.

    Raises PublishFailed, and leaves the message unsettled, where the bus did not confirm.
    """
    log.warning("dead_lettered", queue=queue, message_id=message.message_id, reason=reason)
    await bus.publish(
        Outgoing(
            exchange=DEAD.name,
            routing_key=message.routing_key or queue,
            body=message.body,
            message_id=message.message_id or "",
            headers={**message.headers, REASON: reason[:LONGEST_REASON], QUEUE: queue},
            correlation_id=message.correlation_id,
            reply_to=message.reply_to,
        )
    )
    await message.ack()
