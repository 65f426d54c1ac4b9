"""What the holder of a limited account on the broker tries."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import aio_pika
from aio_pika.abc import AbstractChannel
from aio_pika.exceptions import AMQPError

from contracts.roles import Role
from contracts.topology import DEAD_QUEUE, EVENTS, EXCHANGES, PHASE_QUEUES, QUEUES, SIGNALS
from tests.attack.target import Target, require

WORKERS = (Role.OPTIMIZER, Role.TRAINER, Role.EVALUATOR)
Action = Callable[[AbstractChannel], Awaitable[object]]


async def a_client_that_publishes_and_reads_everywhere(target: Target) -> int:
    """Each exchange but that of submissions, each queue, and the default exchange."""
    actions = {f"publish to {exchange.name}": _publish(exchange.name, "x") for exchange in EXCHANGES}
    actions |= {f"read {queue.name}": _read(queue.name) for queue in QUEUES}
    actions |= {f"put into {queue.name}": _publish("", queue.name) for queue in QUEUES}
    return await _refused(target, Role.CLIENT, actions)


async def workers_that_forge_the_facts_of_other_phases(target: Target) -> int:
    """Events of other phases, signals, commands, and the queues of others."""
    own = {
        Role.OPTIMIZER: "data_optimized",
        Role.TRAINER: "model_trained",
        Role.EVALUATOR: "model_evaluated",
    }
    tried = 0
    for role in WORKERS:
        keys = [key for other, key in own.items() if other is not role]
        actions = {f"publish {key}": _publish(EVENTS.name, key) for key in (*keys, "next_iteration", "lease_lost")}
        actions["signal"] = _publish(SIGNALS.name, "")
        for phase, queue in PHASE_QUEUES.items():
            actions[f"command {phase}"] = _publish("treadle.commands", phase.value)
            if phase.worker != role:
                actions[f"read {queue.name}"] = _read(queue.name)
        actions["read the dead letters"] = _read(DEAD_QUEUE.name)
        tried += await _refused(target, role, actions)
    return tried


async def accounts_that_change_the_topology(target: Target) -> int:
    """Deleting, purging and declaring."""
    tried = 0
    for role in (*WORKERS, Role.CLIENT):
        actions: dict[str, Action] = {
            f"delete {queue.name}": lambda channel, name=queue.name: channel.queue_delete(name) for queue in QUEUES
        }
        actions |= {
            f"delete {exchange.name}": lambda channel, name=exchange.name: channel.exchange_delete(name)
            for exchange in EXCHANGES
        }
        actions["declare a queue"] = lambda channel: channel.declare_queue("mine")
        actions["declare an exchange"] = lambda channel: channel.declare_exchange("mine")
        tried += await _refused(target, role, actions)
    return tried


async def accounts_that_speak_in_the_name_of_others(target: Target) -> int:
    """Messages whose `user_id` is the account of control or of the administrator."""
    tried = 0
    for role in (*WORKERS, Role.CLIENT):
        exchange, key = ("treadle.tasks", "create_task") if role is Role.CLIENT else ("treadle.claims", "claim")
        names = ("control", "treadle", "guest", "")
        actions = {f"as {name!r}": _publish(exchange, key, user_id=name) for name in names if name}
        tried += await _refused(target, role, actions)
    return tried


async def _refused(target: Target, role: Role, actions: dict[str, Action]) -> int:
    """Require that the broker refuses each action of this role's account."""
    async with await aio_pika.connect(target.servers.rabbitmq.url_of(role)) as connection:
        for name, action in actions.items():
            channel = await connection.channel()
            try:
                await action(channel)
            except AMQPError:
                continue
            require(False, f"{role} may {name}")
    return len(actions)


def _publish(exchange: str, key: str, *, user_id: str | None = None) -> Action:
    async def action(channel: AbstractChannel) -> None:
        to = await channel.get_exchange(exchange, ensure=False) if exchange else channel.default_exchange
        await to.publish(aio_pika.Message(b"{}", user_id=user_id), key, mandatory=False, timeout=10)

    return action


def _read(queue: str) -> Action:
    async def action(channel: AbstractChannel) -> None:
        found = await channel.get_queue(queue, ensure=False)
        await found.get(fail=False, timeout=10)

    return action
