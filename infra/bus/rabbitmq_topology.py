"""The topology of `contracts.topology` on RabbitMQ 3.10 to 4.x. Declaring it again changes nothing."""

from __future__ import annotations

from typing import Any

from pika.exceptions import ChannelClosedByBroker

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
from infra.bus.rabbitmq_channel import Channel

UNLIMITED = 2**31 - 1
"""From 4.0 on a quorum queue without a limit takes 20 and then drops: what nobody could handle must never drop."""
NOT_FOUND, PRECONDITION_FAILED = 404, 406
"""Reply codes of AMQP."""

BY_NAME = {queue.name: queue for queue in QUEUES}
_KINDS = {exchange.name: exchange.kind for exchange in EXCHANGES}


def arguments(queue: Queue) -> dict[str, Any]:
    """The arguments under which a shared queue is declared; the broker refuses any others later."""
    if queue.kind is QueueKind.CLASSIC:
        return {"x-queue-type": "classic"}
    if not queue.dead_letters:
        return {"x-queue-type": "quorum", "x-delivery-limit": UNLIMITED}
    return {
        "x-queue-type": "quorum",
        "x-delivery-limit": DELIVERY_LIMIT,
        "x-dead-letter-exchange": DEAD.name,
        "x-dead-letter-strategy": "at-least-once",
        "x-overflow": "reject-publish",
    }


async def declare_topology(channel: Channel) -> None:
    """Declare every exchange, queue and binding. Raises BusUnavailable naming the one that is there but different."""
    for exchange in EXCHANGES:
        await _declare_exchange(channel, exchange.name)
    for queue in QUEUES:
        await _declare_queue(channel, queue)


async def declare_shared(channel: Channel, queue: Queue) -> str:
    """Declare one shared queue with all that it needs: a consumer can be restored on a broker that came back empty."""
    await _declare_exchange(channel, queue.exchange)
    await _declare_queue(channel, queue)
    return queue.name


async def declare_private(channel: Channel, exchange: str, binding: str) -> str:
    """Declare a bounded queue that vanishes with its consumer. The broker names it anew each time.

    A name kept over a reconnection would be locked while the broker still believes in the old connection.
    """
    await _declare_exchange(channel, exchange)
    limits = {"x-queue-type": "classic", "x-max-length": PRIVATE_QUEUE_LENGTH, "x-overflow": "drop-head"}
    declared = await channel.ask(
        lambda done: channel.raw.queue_declare("", exclusive=True, auto_delete=True, arguments=limits, callback=done)
    )
    name: str = declared.method.queue
    await _bind(channel, name, exchange, binding)
    return name


async def depth(channel: Channel, name: str) -> int:
    """Messages ready in a queue. Raises BusUnavailable where there is none of this name; the channel is gone then."""
    try:
        declared = await channel.ask(lambda done: channel.raw.queue_declare(name, passive=True, callback=done))
    except ChannelClosedByBroker as error:
        if error.reply_code != NOT_FOUND:
            raise
        raise BusUnavailable(f"the queue {name} does not exist: run `treadle topology apply`") from error
    return int(declared.method.message_count)


async def _declare_exchange(channel: Channel, name: str) -> None:
    kind = _KINDS[name].value
    try:
        await channel.ask(lambda done: channel.raw.exchange_declare(name, kind, durable=True, callback=done))
    except ChannelClosedByBroker as error:
        raise _explained("exchange", name, error, error.reply_code) from error


async def _declare_queue(channel: Channel, queue: Queue) -> None:
    given = arguments(queue)
    try:
        await channel.ask(
            lambda done: channel.raw.queue_declare(queue.name, durable=True, arguments=given, callback=done)
        )
    except ChannelClosedByBroker as error:
        raise _explained("queue", queue.name, error, error.reply_code) from error
    await _bind(channel, queue.name, queue.exchange, queue.binding)


async def _bind(channel: Channel, queue: str, exchange: str, binding: str) -> None:
    await channel.ask(lambda done: channel.raw.queue_bind(queue, exchange, binding, callback=done))


def _explained(what: str, name: str, error: Exception, code: int) -> Exception:
    if code != PRECONDITION_FAILED:
        return error
    return BusUnavailable(
        f"the {what} {name} exists with other arguments than this version of Treadle declares: "
        f"drain and delete it, then run `treadle topology apply` ({error})"
    )
