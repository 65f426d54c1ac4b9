"""Declares the topology if the account may do so, else checks that it exists.

RabbitMQ checks the permission to configure also for the declaration of a thing that exists as declared.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager

from aio_pika.abc import AbstractChannel
from aio_pika.exceptions import ChannelNotFoundEntity
from aiormq.exceptions import ChannelAccessRefused

from contracts.topology import EXCHANGES, QUEUES
from infra.bus.port import BusUnavailable
from infra.bus.rabbitmq.topology import DECLARE_TIMEOUT, declare_topology

OpenChannel = Callable[[], AbstractAsyncContextManager[AbstractChannel]]
"""Opens a channel; a refused or failed declaration closes it."""


async def declare_or_check(open_channel: OpenChannel) -> bool:
    """Declare the topology, or check it if the account may not declare; return whether it may.

    Raises BusUnavailable if something exists with other arguments, or if it is missing and may not be declared.
    """
    try:
        async with open_channel() as channel:
            await declare_topology(channel)
    except ChannelAccessRefused:
        await check_topology(open_channel)
        return False
    return True


async def check_topology(open_channel: OpenChannel) -> None:
    """Raise BusUnavailable with the names of the exchanges and queues that do not exist."""
    missing = [
        f"the exchange {exchange.name}"
        for exchange in EXCHANGES
        if not await _exists(open_channel, _exchange(exchange.name))
    ]
    missing += [f"the queue {queue.name}" for queue in QUEUES if not await _exists(open_channel, _queue(queue.name))]
    if missing:
        raise BusUnavailable(
            f"{', '.join(missing)} must be declared, which this account may not do: "
            "run `treadle topology apply` with the account of control, or start control"
        )


async def _exists(open_channel: OpenChannel, look_up: Callable[[AbstractChannel], Awaitable[object]]) -> bool:
    try:
        async with open_channel() as channel:
            await look_up(channel)
    except ChannelNotFoundEntity:
        return False
    except ChannelAccessRefused:  # RabbitMQ 4.3 tells only accounts with a permission on the name; then it is not ours
        return True
    return True


def _exchange(name: str) -> Callable[[AbstractChannel], Awaitable[object]]:
    return lambda channel: channel.get_exchange(name, ensure=True)


def _queue(name: str) -> Callable[[AbstractChannel], Awaitable[object]]:
    return lambda channel: channel.declare_queue(name, passive=True, timeout=DECLARE_TIMEOUT)
