"""Declares the topology of `contracts.topology` on RabbitMQ 3.10 to 4.x; declaring it again changes nothing."""

from __future__ import annotations

from typing import Any

from aio_pika.abc import AbstractChannel, AbstractQueue
from aio_pika.exceptions import ChannelNotFoundEntity, ChannelPreconditionFailed

from contracts.topology import (
    DEAD,
    DELIVERY_LIMIT,
    EXCHANGES,
    PRIVATE_QUEUE_LENGTH,
    QUEUES,
    Queue,
    QueueKind,
)
from infra.bus.port import BusUnavailable

UNLIMITED_DELIVERIES = 2**31 - 1
"""Since 4.0 a quorum queue has a default limit of 20 and then drops the message; dead letters must be kept."""
DECLARE_TIMEOUT = 10.0
"""Seconds."""

QUEUES_BY_NAME = {queue.name: queue for queue in QUEUES}
_EXCHANGE_KINDS = {exchange.name: exchange.kind for exchange in EXCHANGES}


def arguments(queue: Queue) -> dict[str, Any]:
    """The arguments of a shared queue; the broker refuses a later declaration with other arguments."""
    if queue.kind is QueueKind.CLASSIC:
        return {"x-queue-type": "classic"}
    if not queue.dead_letters:
        return {"x-queue-type": "quorum", "x-delivery-limit": UNLIMITED_DELIVERIES}
    return {
        "x-queue-type": "quorum",
        "x-delivery-limit": DELIVERY_LIMIT,
        "x-dead-letter-exchange": DEAD.name,
        "x-dead-letter-strategy": "at-least-once",
        "x-overflow": "reject-publish",
    }


async def declare_topology(channel: AbstractChannel) -> None:
    """Declare every exchange, queue and binding. Raises BusUnavailable if one exists with other arguments."""
    for exchange in EXCHANGES:
        await _declare_exchange(channel, exchange.name)
    for queue in QUEUES:
        await _declare_queue(channel, queue)


async def declare_shared(channel: AbstractChannel, queue: Queue) -> AbstractQueue:
    """Declare one shared queue and its exchange, in case the broker lost its data before a reconnection."""
    await _declare_exchange(channel, queue.exchange)
    return await _declare_queue(channel, queue)


async def declare_private(
    channel: AbstractChannel, exchange: str, binding: str, *, may_declare: bool = True
) -> AbstractQueue:
    """Declare a bounded queue that is deleted with its consumer; the broker generates a new name each time.

    With a fixed name, the queue would stay locked until the broker notices that the old connection is lost. The
    exchange is declared too if the account `may_declare` the topology.
    """
    if may_declare:
        await _declare_exchange(channel, exchange)
    queue = await channel.declare_queue(
        "",
        exclusive=True,
        auto_delete=True,
        arguments={"x-queue-type": "classic", "x-max-length": PRIVATE_QUEUE_LENGTH, "x-overflow": "drop-head"},
        timeout=DECLARE_TIMEOUT,
    )
    await queue.bind(exchange, binding, timeout=DECLARE_TIMEOUT)
    return queue


async def look_up(channel: AbstractChannel, name: str) -> AbstractQueue:
    """A queue, with the number of its ready messages. Raises BusUnavailable if it does not exist."""
    try:
        return await channel.declare_queue(name, passive=True, timeout=DECLARE_TIMEOUT)
    except ChannelNotFoundEntity as error:
        raise BusUnavailable(f"the queue {name} does not exist: run `treadle topology apply`") from error


async def _declare_exchange(channel: AbstractChannel, name: str) -> None:
    try:
        await channel.declare_exchange(name, _EXCHANGE_KINDS[name].value, durable=True, timeout=DECLARE_TIMEOUT)
    except ChannelPreconditionFailed as error:
        raise _mismatch("exchange", name, error) from error


async def _declare_queue(channel: AbstractChannel, queue: Queue) -> AbstractQueue:
    try:
        declared = await channel.declare_queue(
            queue.name, durable=True, arguments=arguments(queue), timeout=DECLARE_TIMEOUT
        )
    except ChannelPreconditionFailed as error:
        raise _mismatch("queue", queue.name, error) from error
    await declared.bind(queue.exchange, queue.binding, timeout=DECLARE_TIMEOUT)
    return declared


def _mismatch(what: str, name: str, error: Exception) -> BusUnavailable:
    return BusUnavailable(
        f"the {what} {name} exists with other arguments than this version of Treadle declares: "
        f"drain and delete it, then run `treadle topology apply` ({error})"
    )
