"""Queues, bindings and exchanges that somebody deletes while the stack runs."""

from __future__ import annotations

from contracts.tasks import Phase
from contracts.topology import (
    CLAIMS_QUEUE,
    COMMANDS,
    CONTROL_QUEUE,
    DEAD_QUEUE,
    EVENTS,
    PHASE_QUEUES,
    SUBMISSIONS_QUEUE,
)
from tests.attack.target import Target


async def every_queue_deleted(target: Target) -> int:
    """Each queue, the dead letters' first."""
    queues = (DEAD_QUEUE, SUBMISSIONS_QUEUE, CONTROL_QUEUE, CLAIMS_QUEUE, *PHASE_QUEUES.values())
    for queue in queues:
        async with target.channel() as channel:
            await channel.queue_delete(queue.name)
    return len(queues)


async def every_binding_removed(target: Target) -> int:
    """Each queue stays, and gets no message."""
    queues = (SUBMISSIONS_QUEUE, CONTROL_QUEUE, CLAIMS_QUEUE, *PHASE_QUEUES.values())
    for queue in queues:
        async with target.channel() as channel:
            bound = await channel.declare_queue(queue.name, passive=True)
            await bound.unbind(queue.exchange, queue.binding)
    return len(queues)


async def exchanges_deleted(target: Target) -> int:
    """The exchanges of commands and of events, whose bindings go with them."""
    for exchange in (COMMANDS, EVENTS):
        async with target.channel() as channel:
            await channel.exchange_delete(exchange.name)
    return 2


async def a_queue_of_commands_deleted_while_poison_arrives(target: Target) -> int:
    """No dead letters can be kept, and commands that cannot be read arrive."""
    async with target.channel() as channel:
        await channel.queue_delete(DEAD_QUEUE.name)
        await channel.queue_delete(PHASE_QUEUES[Phase.TRAIN].name)
    return await target.publish("treadle.tasks", "create_task", [b"poison"] * 300)
