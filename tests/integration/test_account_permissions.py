"""What the account of each role may do on a real broker, and what it may not: every other name and routing key."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from itertools import chain
from uuid import uuid4

import aio_pika
import pytest
import pytest_asyncio
from aio_pika.abc import AbstractChannel, AbstractConnection
from aiormq.exceptions import ChannelAccessRefused, ChannelLockedResource, ChannelPreconditionFailed

from contracts.roles import Role
from contracts.tasks import Phase
from contracts.topology import (
    CLAIMS,
    CLAIMS_QUEUE,
    COMMANDS,
    CONTROL_QUEUE,
    DEAD,
    DEAD_QUEUE,
    EVENTS,
    EXCHANGES,
    PHASE_QUEUES,
    PROGRESS,
    QUEUES,
    SIGNALS,
    SUBMISSIONS_QUEUE,
    TASKS,
)
from infra.bus.rabbitmq import RabbitMQBus
from infra.stack.rabbitmq import RabbitMQNode
from tests import servers

Action = Callable[[AbstractChannel], Awaitable[object]]
Actions = dict[str, Action]
PHASES = {Role(phase.worker): phase for phase in Phase}
KEYS = {
    Role.OPTIMIZER: ("data_optimized", "phase_failed.optimize", "phase_paused.optimize"),
    Role.TRAINER: ("model_trained", "phase_failed.train", "phase_paused.train"),
    Role.EVALUATOR: ("model_evaluated", "phase_failed.evaluate", "phase_paused.evaluate"),
    Role.CONTROL: ("next_iteration",),
}
"""The routing keys of each role's events."""
NAMES = sorted({*(exchange.name for exchange in EXCHANGES), *(queue.name for queue in QUEUES)})


@pytest.fixture
def node(rabbitmq: servers.Broker) -> RabbitMQNode:
    if rabbitmq.node is None:
        pytest.skip("the test needs accounts, so it needs rabbitmq-server on this machine")
    return rabbitmq.node


@pytest_asyncio.fixture
async def declared(bus_url: str) -> AsyncIterator[RabbitMQBus]:
    """The topology, declared by an account without limits."""
    bus = RabbitMQBus(bus_url)
    await bus.start()
    yield bus
    await bus.close()


def publish(exchange: str, key: str, *, account: str | None = None) -> Action:
    async def action(channel: AbstractChannel) -> None:
        message = aio_pika.Message(b"{}", user_id=account)
        target = await channel.get_exchange(exchange, ensure=False) if exchange else channel.default_exchange
        await target.publish(message, key, mandatory=False, timeout=10)

    return action


def consume(queue: str) -> Action:
    return lambda channel: _consume(channel, queue)


async def _consume(channel: AbstractChannel, queue: str) -> None:
    await channel.set_qos(1)
    await (await channel.get_queue(queue, ensure=False)).consume(_keep)


async def _keep(_: object) -> None:
    """Leave the message unacknowledged: it is requeued when the channel is closed."""


def bind_private_queue(exchange: str) -> Action:
    """Listen to an exchange with a queue of one's own."""

    async def action(channel: AbstractChannel) -> None:
        queue = await channel.declare_queue(exclusive=True)
        await queue.bind(exchange, "claim" if exchange == CLAIMS.name else "#")

    return action


def bind(destination: str, source: str) -> Action:
    """Route what one exchange receives to another one."""

    async def action(channel: AbstractChannel) -> None:
        await (await channel.get_exchange(destination, ensure=False)).bind(source, "#")

    return action


def unbind(queue: str, exchange: str) -> Action:
    async def action(channel: AbstractChannel) -> None:
        await (await channel.get_queue(queue, ensure=False)).unbind(exchange, "#")

    return action


def listings(names: Iterable[str]) -> Actions:
    """Declare, replace and delete each name as a queue and as an exchange."""
    actions: Actions = {}
    for name in names:
        actions[f"declare queue {name}"] = lambda channel, n=name: channel.declare_queue(n, durable=True)  # type: ignore[misc]
        actions[f"declare exchange {name}"] = lambda channel, n=name: channel.declare_exchange(n)  # type: ignore[misc]
        actions[f"delete queue {name}"] = lambda channel, n=name: channel.queue_delete(n)  # type: ignore[misc]
        actions[f"delete exchange {name}"] = lambda channel, n=name: channel.exchange_delete(n)  # type: ignore[misc]
    return actions


def publications(pairs: Iterable[tuple[str, str]]) -> Actions:
    return {f"publish {exchange}/{key}": publish(exchange, key) for exchange, key in pairs}


def reading(queues: Iterable[str]) -> Actions:
    """Consume and purge."""
    actions: Actions = {}
    for queue in queues:
        actions[f"consume {queue}"] = consume(queue)
        actions[f"purge {queue}"] = lambda channel, q=queue: _purge(channel, q)  # type: ignore[misc]
    return actions


async def _purge(channel: AbstractChannel, queue: str) -> None:
    await (await channel.get_queue(queue, ensure=False)).purge()


def forbidden(role: Role) -> Actions:
    """What the account of a worker or a client must not do."""
    phase = PHASES.get(role)
    own_queue = PHASE_QUEUES[phase].name if phase else None
    others = [key for other, keys in KEYS.items() if other is not role for key in keys]
    dead = [key for other in Phase if other is not phase for key in (other.value, PHASE_QUEUES[other].name)]
    return {
        **publications(
            chain(
                (("", queue.name) for queue in QUEUES),
                [("", "amq.rabbitmq.reply-to.x"), (SIGNALS.name, "attempt_signal")],
                ((COMMANDS.name, other.value) for other in Phase),
                ((EVENTS.name, key) for key in (*others, "phase_failed", CONTROL_QUEUE.name, "lease_lost", "")),
                ((DEAD.name, key) for key in (*dead, "create_task", "")),
                ((PROGRESS.name, f"{other}.{uuid4()}") for other in Phase if other is not phase),
                [] if role is Role.CLIENT else [(TASKS.name, "create_task"), (TASKS.name, "kick_task")],
                [(CLAIMS.name, "claim"), (TASKS.name, "model_trained")] if role is Role.CLIENT else [],
                ((name, "x") for name in ("amq.topic", "amq.direct", "amq.fanout")),
            )
        ),
        **reading(queue.name for queue in QUEUES if queue.name != own_queue),
        **listings([*NAMES, "treadle.new", "other"]),
        **{
            f"listen to {exchange.name}": bind_private_queue(exchange.name)
            for exchange in EXCHANGES
            if role is Role.CLIENT or exchange is not SIGNALS
        },
        **{
            f"route {source.name} to {EVENTS.name}": bind(EVENTS.name, source.name)
            for source in (COMMANDS, TASKS, PROGRESS, DEAD)
        },
        f"unbind {CONTROL_QUEUE.name}": unbind(CONTROL_QUEUE.name, EVENTS.name),
        f"unbind {CLAIMS_QUEUE.name}": unbind(CLAIMS_QUEUE.name, CLAIMS.name),
        f"unbind {DEAD_QUEUE.name}": unbind(DEAD_QUEUE.name, DEAD.name),
    }


def needed(role: Role) -> Actions:
    """What the account of a role must do."""
    if role is Role.CONTROL:
        return {
            **publications(
                [(COMMANDS.name, "train"), (EVENTS.name, "next_iteration"), (SIGNALS.name, "attempt_signal")]
            ),
            **publications([(DEAD.name, "train"), (CLAIMS.name, "claim"), ("", SUBMISSIONS_QUEUE.name)]),
            **{f"consume {queue.name}": consume(queue.name) for queue in QUEUES},
            f"listen to {PROGRESS.name}": bind_private_queue(PROGRESS.name),
        }
    if role is Role.CLIENT:
        return publications((TASKS.name, kind) for kind in ("create_task", "pause_task", "fail_task"))
    phase = PHASES[role]
    return {
        **publications((EVENTS.name, key) for key in KEYS[role]),
        **publications([(CLAIMS.name, "claim"), (PROGRESS.name, f"{phase}.{uuid4()}"), (DEAD.name, phase.value)]),
        **publications([(DEAD.name, PHASE_QUEUES[phase].name)]),
        f"consume {PHASE_QUEUES[phase].name}": consume(PHASE_QUEUES[phase].name),
        f"listen to {SIGNALS.name}": bind_private_queue(SIGNALS.name),
    }


async def is_permitted(connection: AbstractConnection, action: Action) -> bool:
    """Try it on a channel of its own, because the broker closes the channel if it refuses."""
    channel = await connection.channel()
    try:
        await action(channel)
    except ChannelAccessRefused:
        return False
    finally:
        await channel.close()
    return True


LIMITED = [role for role in Role if role is not Role.CONTROL]


@pytest.mark.usefixtures("declared")
@pytest.mark.parametrize("role", LIMITED)
async def test_a_limited_account_may_do_nothing_that_its_role_does_not_need(node: RabbitMQNode, role: Role) -> None:
    async with await aio_pika.connect(node.url_of(role)) as connection:
        allowed = [name for name, action in forbidden(role).items() if await is_permitted(connection, action)]

    assert allowed == []


@pytest.mark.usefixtures("declared")
@pytest.mark.parametrize("role", Role)
async def test_an_account_may_do_all_that_its_role_needs(node: RabbitMQNode, role: Role) -> None:
    async with await aio_pika.connect(node.url_of(role)) as connection:
        refused = [name for name, action in needed(role).items() if not await is_permitted(connection, action)]

    assert refused == []


@pytest.mark.usefixtures("declared")
@pytest.mark.parametrize("role", Role)
async def test_an_account_cannot_publish_in_the_name_of_another_one(node: RabbitMQNode, role: Role) -> None:
    exchange, key = (TASKS.name, "create_task") if role in (Role.CLIENT, Role.CONTROL) else (EVENTS.name, KEYS[role][0])
    async with await aio_pika.connect(node.url_of(role)) as connection:
        await publish(exchange, key, account=role.value)(await connection.channel())
        with pytest.raises(ChannelPreconditionFailed, match="user_id"):
            await publish(exchange, key, account="somebody")(await connection.channel())


@pytest.mark.usefixtures("declared")
async def test_a_worker_cannot_read_the_private_queue_of_another_one(node: RabbitMQNode) -> None:
    async with (
        await aio_pika.connect(node.url_of(Role.TRAINER)) as trainer,
        await aio_pika.connect(node.url_of(Role.EVALUATOR)) as evaluator,
    ):
        private = await (await trainer.channel()).declare_queue(exclusive=True)

        with pytest.raises(ChannelLockedResource):
            await consume(private.name)(await evaluator.channel())
