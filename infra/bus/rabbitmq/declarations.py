"""Declares and looks up single exchanges and queues on RabbitMQ 3.10 to 4.x."""

from __future__ import annotations

from collections import deque
from typing import Any

from aio_pika.abc import AbstractChannel, AbstractQueue
from aio_pika.exceptions import ChannelNotFoundEntity, ChannelPreconditionFailed
from aiormq.exceptions import ChannelAccessRefused

from contracts.topology import (
    CLAIMS_QUEUE,
    DEAD,
    DEAD_QUEUE,
    DELIVERY_LIMIT,
    EXCHANGES,
    Exchange,
    Queue,
    QueueKind,
)
from infra.bus.port import BusUnavailable

UNLIMITED_DELIVERIES = 2**31 - 1
"""Since 4.0 a quorum queue has a default limit of 20 and then drops the message; dead letters must be kept."""
DECLARE_TIMEOUT = 10.0
"""Seconds."""
FORMER_ARGUMENTS: dict[str, dict[str, Any]] = {
    CLAIMS_QUEUE.name: {"x-queue-type": "classic"},
    DEAD_QUEUE.name: {"x-queue-type": "quorum", "x-delivery-limit": UNLIMITED_DELIVERIES},
}
"""The arguments that an earlier version declared. Such a queue is accepted until it can be replaced."""

_EXCHANGES_BY_NAME = {exchange.name: exchange for exchange in EXCHANGES}


def arguments(queue: Queue) -> dict[str, Any]:
    """The arguments of a shared queue; the broker refuses a later declaration with other arguments."""
    limits = {
        "x-message-ttl": None if queue.expires is None else int(queue.expires * 1000),
        "x-max-length": queue.max_length,
        "x-max-length-bytes": queue.max_bytes,
        "x-overflow": None if queue.max_length is None else "drop-head",
    }
    limited = {name: value for name, value in limits.items() if value is not None}
    if queue.kind is QueueKind.CLASSIC:
        return {"x-queue-type": "classic", **limited}
    if not queue.dead_letters:
        return {"x-queue-type": "quorum", "x-delivery-limit": UNLIMITED_DELIVERIES, **limited}
    return {
        "x-queue-type": "quorum",
        "x-delivery-limit": DELIVERY_LIMIT,
        "x-dead-letter-exchange": DEAD.name,
        "x-dead-letter-strategy": "at-least-once",
        "x-overflow": "reject-publish",
    }


class QueueMismatch(BusUnavailable):
    """An exchange or a queue exists with other arguments."""

    def __init__(self, what: str, name: str, error: Exception) -> None:
        super().__init__(
            f"the {what} {name} exists with other arguments than this version of Treadle declares: "
            f"drain and delete it, then run `treadle topology apply` ({error})"
        )


async def look_up(channel: AbstractChannel, name: str) -> AbstractQueue:
    """A queue, with the number of its ready messages. Raises BusUnavailable if it does not exist."""
    try:
        return await channel.declare_queue(name, passive=True, timeout=DECLARE_TIMEOUT)
    except ChannelNotFoundEntity as error:
        raise BusUnavailable(f"the queue {name} does not exist: run `treadle topology apply`") from error


async def first_absent(channel: AbstractChannel, items: deque[Exchange | Queue]) -> Exchange | Queue | None:
    """Remove the items from `items` until one does not exist, and return that one; it closes the channel."""
    underlay = await channel.get_underlay_channel()
    while items:
        item = items.popleft()
        try:
            if isinstance(item, Exchange):
                await underlay.exchange_declare(item.name, passive=True, timeout=DECLARE_TIMEOUT)
            else:
                await underlay.queue_declare(item.name, passive=True, timeout=DECLARE_TIMEOUT)
        except ChannelNotFoundEntity:
            return item
        except (
            ChannelAccessRefused
        ):  # RabbitMQ 4.3 refuses accounts without a permission on the name; another process checks it
            return None
    return None


async def declare_exchange(channel: AbstractChannel, name: str) -> None:
    """Declare an exchange of the topology. Raises QueueMismatch if it exists with another type."""
    kind = _EXCHANGES_BY_NAME[name].kind.value
    try:
        await channel.declare_exchange(name, kind, durable=True, timeout=DECLARE_TIMEOUT)
    except ChannelPreconditionFailed as error:
        raise QueueMismatch("exchange", name, error) from error


async def declare_with(channel: AbstractChannel, queue: Queue, with_arguments: dict[str, Any]) -> AbstractQueue:
    """Declare a queue with these arguments. Raises QueueMismatch if it exists with others."""
    try:
        return await channel.declare_queue(queue.name, durable=True, arguments=with_arguments, timeout=DECLARE_TIMEOUT)
    except ChannelPreconditionFailed as error:
        raise QueueMismatch("queue", queue.name, error) from error
