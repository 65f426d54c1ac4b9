"""Dead-lettering by the consumer: a message that cannot be handled is published with the reason, then acknowledged."""

from __future__ import annotations

from collections.abc import Mapping

from contracts.bounds import cut
from contracts.errors import TreadleError
from contracts.topology import DEAD
from infra.bus.poison import MAX_REASON_LENGTH
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
MAX_HEADER_BYTES = 32 * 2**10
"""Bytes of the other headers that are kept. All headers must fit into one frame of 128 KiB, else the broker closes the
connection."""


async def dead_letter(bus: Bus, message: IncomingMessage, queue: str, reason: str, cause: str) -> None:
    """Publish `message` to the dead-letter exchange with its reason, await the confirm, then acknowledge it.

    It is counted by its `cause`, the name of a class of errors. Raises PublishFailed, and leaves the message
    unacknowledged, if the bus did not confirm.
    """
    reason = cut(reason, MAX_REASON_LENGTH)
    await bus.publish(
        OutgoingMessage(
            exchange=DEAD.name,
            routing_key=message.routing_key or queue,
            body=message.body,
            message_id=message.message_id or "",
            headers={**bounded_headers(message.headers), REASON: reason, QUEUE: queue},
            correlation_id=message.correlation_id,
            reply_to=message.reply_to,
        )
    )
    bus.poison.record(queue, cause, reason, message.message_id, kept=True)
    await message.ack()


def cause_of(error: Exception) -> str:
    """The name of the class of an error, by which poison is counted."""
    return type(error).__name__


def reason_of(error: Exception) -> str:
    """Why a message could not be handled; the class of an unforeseen error is a part of it."""
    return str(error) if isinstance(error, TreadleError) else f"{cause_of(error)}: {error}"


def bounded_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """The first headers that together have at most MAX_HEADER_BYTES."""
    kept, left = {}, MAX_HEADER_BYTES
    for name, value in headers.items():
        left -= len(name.encode()) + len(value.encode())
        if left < 0:
            break
        kept[name] = value
    return kept
