"""What is deleted at the broker is declared again by the service that needs it, without a restart."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aio_pika
import pytest
import pytest_asyncio
from aio_pika.abc import AbstractChannel

from contracts.topology import (
    CLAIMS,
    CLAIMS_QUEUE,
    COMMANDS,
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
    Exchange,
    Queue,
)
from infra.bus.dead_letter import dead_letter
from infra.bus.port import OutgoingMessage, Unroutable
from infra.bus.rabbitmq import RabbitMQBus
from infra.bus.rabbitmq.declarations import FORMER_ARGUMENTS, arguments
from tests import servers
from tests.conformance.buses import AckingRecorder, Recorder, depth_is
from tests.eventually import eventually

KEYS = {"treadle.optimize": "optimize", "treadle.train": "train", "treadle.evaluate": "evaluate"}
TRAIN = PHASE_QUEUES["train"]  # type: ignore[index]  # a Phase is its string
NEVER, SOON = 3600.0, 0.2
"""Seconds between two checks of the topology."""


@pytest_asyncio.fixture
async def bus(bus_url: str) -> AsyncIterator[RabbitMQBus]:
    """A bus that restores only what its own messages need."""
    async with started(bus_url, NEVER) as bus:
        yield bus


@pytest_asyncio.fixture
async def checking_bus(bus_url: str) -> AsyncIterator[RabbitMQBus]:
    """A bus that checks the topology often."""
    async with started(bus_url, SOON) as bus:
        yield bus


@pytest_asyncio.fixture
async def channel(bus_url: str) -> AsyncIterator[AbstractChannel]:
    """A channel of an operator who deletes things."""
    async with await aio_pika.connect(bus_url) as connection:
        yield await connection.channel()


@asynccontextmanager
async def started(bus_url: str, check_interval: float) -> AsyncIterator[RabbitMQBus]:
    bus = RabbitMQBus(bus_url, check_interval=check_interval)
    await bus.start()
    yield bus
    await bus.close()


def message_to(queue: Queue, message_id: str = "m") -> OutgoingMessage:
    key = KEYS.get(queue.name) or ("claim" if queue is CLAIMS_QUEUE else "any.key")
    return OutgoingMessage(queue.exchange, key, b"{}", message_id)


async def unbind(channel: AbstractChannel, queue: Queue) -> None:
    await (await channel.get_queue(queue.name)).unbind(queue.exchange, queue.binding)


@pytest.mark.parametrize("queue", QUEUES, ids=lambda queue: queue.name)
async def test_a_message_to_a_queue_without_its_binding_arrives(
    bus: RabbitMQBus, channel: AbstractChannel, queue: Queue
) -> None:
    await unbind(channel, queue)
    await bus.publish(message_to(queue))
    await depth_is(bus, queue.name, 1)


@pytest.mark.parametrize("exchange", [COMMANDS, EVENTS, TASKS, CLAIMS, DEAD], ids=lambda exchange: exchange.name)
async def test_messages_to_a_deleted_exchange_arrive(
    bus: RabbitMQBus, channel: AbstractChannel, exchange: Exchange
) -> None:
    queue = next(queue for queue in QUEUES if queue.exchange == exchange.name)
    await channel.exchange_delete(exchange.name)
    assert await bus.publish_all([message_to(queue, str(number)) for number in range(20)]) == [None] * 20
    assert await bus.depth(queue.name) >= 20


async def test_a_dead_letter_is_kept_although_its_queue_was_deleted(bus: RabbitMQBus, channel: AbstractChannel) -> None:
    recorder = Recorder()
    await bus.consume(TRAIN.name, recorder, prefetch=1)
    await bus.publish(message_to(TRAIN))
    (message,) = await recorder.received(1)
    await channel.queue_delete(DEAD_QUEUE.name)
    await dead_letter(bus, message, TRAIN.name, "a reason", "ACause")
    await depth_is(bus, DEAD_QUEUE.name, 1)


async def test_no_message_counts_as_published_because_another_has_the_same_id(
    bus: RabbitMQBus, channel: AbstractChannel, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def never(_: float) -> bool:
        return False

    assert bus._publisher is not None
    monkeypatch.setattr(bus._publisher, "_restore", never)
    await unbind(channel, DEAD_QUEUE)
    outcomes = await bus.publish_all([message_to(DEAD_QUEUE, "same")] * 5)
    assert [type(outcome) for outcome in outcomes] == [Unroutable] * 5


async def test_a_message_that_no_queue_of_treadle_takes_is_still_refused(bus: RabbitMQBus) -> None:
    with pytest.raises(Unroutable, match="nowhere"):
        await bus.publish(OutgoingMessage(COMMANDS.name, "nowhere", b"{}", "m"))


async def test_the_binding_of_a_queue_is_restored_without_a_message(
    checking_bus: RabbitMQBus, channel: AbstractChannel
) -> None:
    await unbind(channel, SUBMISSIONS_QUEUE)
    exchange = await channel.get_exchange(TASKS.name)

    async def arrived() -> bool:
        await exchange.publish(aio_pika.Message(b"{}"), routing_key="create_task", mandatory=False)
        return await checking_bus.depth(SUBMISSIONS_QUEUE.name) > 0

    await eventually(arrived, "a submission to be routed again")


@pytest.mark.parametrize("exchange", [SIGNALS, PROGRESS], ids=lambda exchange: exchange.name)
async def test_a_listener_hears_again_after_its_exchange_was_deleted(
    checking_bus: RabbitMQBus, channel: AbstractChannel, exchange: Exchange
) -> None:
    recorder = AckingRecorder()
    await checking_bus.listen(exchange.name, "#", recorder)
    await channel.exchange_delete(exchange.name)

    async def heard() -> bool:
        await checking_bus.publish_all([OutgoingMessage(exchange.name, "key", b"{}", "m", mandatory=False)])
        return bool(recorder.messages)

    await eventually(heard, "a message to arrive")


async def test_a_listener_hears_again_after_its_binding_was_lost(checking_bus: RabbitMQBus) -> None:
    recorder = AckingRecorder()
    subscription = await checking_bus.listen(PROGRESS.name, "#", recorder)
    async with checking_bus._channel() as own:
        await (await own.get_queue(subscription.queue, ensure=False)).unbind(PROGRESS.name, "#")  # type: ignore[attr-defined]

    async def heard() -> bool:
        await checking_bus.publish_all([OutgoingMessage(PROGRESS.name, "key", b"{}", "m", mandatory=False)])
        return bool(recorder.messages)

    await eventually(heard, "a message to arrive")


async def test_what_is_missing_is_named(bus: RabbitMQBus, channel: AbstractChannel) -> None:
    assert await bus.missing() == {}
    await channel.exchange_delete(COMMANDS.name)
    await channel.exchange_delete(SIGNALS.name)
    await channel.queue_delete(DEAD_QUEUE.name)
    assert set(await bus.missing()) == {"exchange:treadle.commands", "exchange:treadle.signals", "queue:treadle.dead"}


async def test_all_is_restored_without_a_message(checking_bus: RabbitMQBus, channel: AbstractChannel) -> None:
    for exchange in EXCHANGES:
        await channel.exchange_delete(exchange.name)
    await channel.queue_delete(CLAIMS_QUEUE.name)

    async def complete() -> bool:
        return await checking_bus.missing() == {}

    await eventually(complete, "the topology to be complete")
    assert await checking_bus.publish_all([message_to(queue) for queue in QUEUES]) == [None] * len(QUEUES)


async def test_a_topology_that_cannot_be_declared_is_named(bus: RabbitMQBus, channel: AbstractChannel) -> None:
    await channel.queue_delete(CLAIMS_QUEUE.name)
    await channel.declare_queue(CLAIMS_QUEUE.name, durable=True, arguments={"x-max-length": 3})
    assert not await bus._topology.restore()
    assert "treadle.claims exists with other arguments" in (await bus.missing())["topology"]
    await channel.queue_delete(CLAIMS_QUEUE.name)


def test_old_claims_and_too_many_dead_letters_are_deleted_by_the_broker() -> None:
    claims, dead = arguments(CLAIMS_QUEUE), arguments(DEAD_QUEUE)
    assert (claims["x-message-ttl"], claims["x-max-length"], claims["x-overflow"]) == (10_000, 10_000, "drop-head")
    assert (dead["x-max-length"], dead["x-max-length-bytes"], dead["x-overflow"]) == (10_000, 2**30, "drop-head")


@asynccontextmanager
async def former(channel: AbstractChannel, queue: Queue) -> AsyncIterator[Any]:
    """The queue with the arguments of an earlier version."""
    await channel.queue_delete(queue.name)
    yield await channel.declare_queue(queue.name, durable=True, arguments=FORMER_ARGUMENTS[queue.name])
    await channel.queue_delete(queue.name)


async def ignore(_: object) -> None:
    """Take a message and do nothing with it."""


async def has_current_arguments(bus_url: str, queue: Queue) -> bool:
    async with await aio_pika.connect(bus_url) as connection:
        channel = await connection.channel()
        try:
            await channel.declare_queue(queue.name, durable=True, arguments=arguments(queue))
        except aio_pika.exceptions.ChannelPreconditionFailed:
            return False
        return True


async def test_an_unused_queue_of_claims_of_an_earlier_version_is_replaced(
    bus_url: str, channel: AbstractChannel
) -> None:
    async with former(channel, CLAIMS_QUEUE), started(bus_url, NEVER):
        assert await has_current_arguments(bus_url, CLAIMS_QUEUE)


async def test_a_queue_of_claims_that_an_earlier_version_uses_is_used_too(
    bus_url: str, channel: AbstractChannel
) -> None:
    async with former(channel, CLAIMS_QUEUE) as queue:
        consumer = await queue.consume(ignore)
        async with started(bus_url, NEVER) as bus:
            await bus.consume(CLAIMS_QUEUE.name, AckingRecorder(), prefetch=1)
            await bus.publish(message_to(CLAIMS_QUEUE))
            assert bus._topology.outdated == {CLAIMS_QUEUE.name}
        await queue.cancel(consumer)


@pytest.mark.parametrize("letters", [0, 1])
async def test_the_dead_letters_of_an_earlier_version_are_kept_until_their_queue_is_empty(
    bus_url: str, channel: AbstractChannel, letters: int
) -> None:
    async with former(channel, DEAD_QUEUE), started(bus_url, NEVER) as bus:
        for _ in range(letters):
            await bus.publish(message_to(DEAD_QUEUE))
        await depth_is(bus, DEAD_QUEUE.name, letters)
        assert await bus.replace_outdated() == ({DEAD_QUEUE.name} if letters else set())
        assert await bus.depth(DEAD_QUEUE.name) == letters
        assert await has_current_arguments(bus_url, DEAD_QUEUE) is (letters == 0)


async def test_a_service_works_although_its_account_may_not_declare_the_topology(
    bus_url: str, rabbitmq: servers.Broker
) -> None:
    if rabbitmq.node is None:
        pytest.skip("needs a private RabbitMQ")
    async with started(bus_url, NEVER):
        pass  # another service has declared it
    await rabbitmq.node.control("add_user", "limited", "secret")
    await rabbitmq.node.control("set_permissions", "limited", r"^amq\.gen.*$", ".*", ".*")
    limited = f"amqp://limited:secret@{bus_url.rpartition('@')[2]}"
    async with started(limited, SOON) as bus:
        shared, private = AckingRecorder(), AckingRecorder()
        await bus.consume(TRAIN.name, shared, prefetch=1)
        await bus.listen(PROGRESS.name, "#", private)
        await bus.publish(message_to(TRAIN))
        await bus.publish(OutgoingMessage(PROGRESS.name, "key", b"{}", "m", mandatory=False))
        await shared.received(1)
        await private.received(1)
    await rabbitmq.node.control("delete_user", "limited")


async def test_a_consumer_whose_queue_was_deleted_and_declared_again_at_once_receives_again(
    bus: RabbitMQBus, channel: AbstractChannel
) -> None:
    recorder = AckingRecorder()
    await bus.consume(TRAIN.name, recorder, prefetch=1)
    await channel.queue_delete(TRAIN.name)
    await bus.publish(message_to(TRAIN))
    await recorder.received(1)


async def test_a_consumer_that_the_broker_has_forgotten_is_attached_again(
    checking_bus: RabbitMQBus, channel: AbstractChannel
) -> None:
    recorder = AckingRecorder()
    subscription = await checking_bus.consume(TRAIN.name, recorder, prefetch=1)
    attachment = subscription._attachment  # type: ignore[attr-defined]
    await attachment._queue.cancel(attachment._tag)
    await checking_bus.publish(message_to(TRAIN))
    await recorder.received(1)
