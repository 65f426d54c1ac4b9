"""Sends a request through the queue of claims and back, as a worker does, to see whether claims are answered."""

from __future__ import annotations

from uuid import uuid4

from contracts.errors import UndecodableMessage
from contracts.leases import ClaimsProbe, LeaseReply
from contracts.topology import CLAIMS_QUEUE
from contracts.wire import decode, encode
from infra.bus.port import Bus, OutgoingMessage, PublishFailed, RequestTimedOut

TIMEOUT = 2.0
"""Seconds for the reply."""


async def why_claims_are_unanswered(bus: Bus) -> str | None:
    """Why claims are not answered; None if they are."""
    probe = ClaimsProbe(request_id=uuid4())
    message = OutgoingMessage(
        CLAIMS_QUEUE.exchange,
        CLAIMS_QUEUE.binding,
        encode(probe),
        str(probe.message_id),
        expires=TIMEOUT,
        persistent=False,
    )
    try:
        decode(await bus.request(message, timeout=TIMEOUT), LeaseReply)
    except (RequestTimedOut, PublishFailed, UndecodableMessage) as error:
        return f"a claim that control sent to itself was not answered: {error}"
    return None
