"""Dead-lettering by the consumer: a message that cannot be handled is published with the reason, then acknowledged."""

from __future__ import annotations

import structlog

from contracts.topology import DEAD
from infra.bus.port import Bus, IncomingMessage, OutgoingMessage

REASON = "x-treadle-reason"
"""Header: why the message could not be handled."""
QUEUE = "x-treadle-queue"
"""Header: the queue from which the message was consumed."""
REPLAYS = "x-treadle-replays"
"""Header: how many times a person has replayed the message to its queue."""
BROKER_REASON = "x-first-death-reason"
BROKER_QUEUE = "x-first-death-queue"
"""The reason and queue headers that the broker adds when it dead-letters a message itself."""
MAX_REASON_LENGTH = 2000
"""Characters of the reason that are kept in the header."""

log = structlog.get_logger(__name__)


async def dead_letter(bus: Bus, message: IncomingMessage, queue: str, reason: str) -> None:
    """Publish `message` to the dead-letter exchange with its reason, await the confirm, then acknowledge it.

    Raises PublishFailed, and leaves the message unacknowledged, if the bus did not confirm.
    """
    log.warning("dead_lettered", queue=queue, message_id=message.message_id, reason=reason)
    await bus.publish(
        OutgoingMessage(
            exchange=DEAD.name,
            routing_key=message.routing_key or queue,
            body=message.body,
            message_id=message.message_id or "",
            headers={**message.headers, REASON: reason[:MAX_REASON_LENGTH], QUEUE: queue},
            correlation_id=message.correlation_id,
            reply_to=message.reply_to,
        )
    )
    await message.ack()
