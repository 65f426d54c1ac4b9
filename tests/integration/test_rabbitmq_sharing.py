"""Messages that travel together on RabbitMQ: one message of the broker's, settled as one."""

from __future__ import annotations

import asyncio
from uuid import uuid4

from contracts.topology import COMMANDS, PHASE_QUEUES
from infra.bus.port import Incoming, Outgoing
from infra.bus.rabbitmq import RabbitMQBus
from infra.bus.rabbitmq_sharing import MOST
from tests.conformance.buses import AckingInbox, Inbox, depth_is

TRAIN = PHASE_QUEUES["train"].name  # type: ignore[index]  # a Phase is its string


async def publish(bus: RabbitMQBus, count: int, *, shared: bool = True) -> None:
    messages = [Outgoing(COMMANDS.name, "train", str(n).encode(), str(uuid4()), shared=shared) for n in range(count)]
    assert await bus.publish_all(messages) == [None] * count


async def test_messages_of_one_turn_that_may_share_are_one(bus: RabbitMQBus) -> None:
    await publish(bus, 5)
    assert await bus.depth(TRAIN) == 1


async def test_messages_that_may_not_share_stay_apart(bus: RabbitMQBus) -> None:
    await publish(bus, 5, shared=False)
    assert await bus.depth(TRAIN) == 5


async def test_so_many_share_and_no_more(bus: RabbitMQBus) -> None:
    await publish(bus, MOST + 1)
    assert await bus.depth(TRAIN) == 2


async def test_those_that_shared_are_gone_once_all_are_acknowledged(bus: RabbitMQBus) -> None:
    await publish(bus, 3)
    inbox = AckingInbox()
    subscription = await bus.consume(TRAIN, inbox, prefetch=1)
    await inbox.holds(3)
    await subscription.cancel()
    await bus.close()
    await bus.start()
    assert await bus.depth(TRAIN) == 0


async def test_those_that_shared_come_again_while_one_is_not_acknowledged(bus: RabbitMQBus) -> None:
    await publish(bus, 3)
    inbox = Inbox()
    await bus.consume(TRAIN, inbox, prefetch=1)
    first, second, _ = await inbox.holds(3)
    await first.ack()
    await second.ack()
    await bus.close()
    await bus.start()
    await depth_is(bus, TRAIN, 1)


async def test_where_one_is_given_back_all_come_again(bus: RabbitMQBus) -> None:
    await publish(bus, 3)
    inbox = Inbox()
    await bus.consume(TRAIN, inbox, prefetch=1)
    first, second, third = await inbox.holds(3)
    await first.ack()
    await second.requeue()
    await third.ack()
    again = (await inbox.holds(6))[3:]
    assert [(message.body, message.redelivered) for message in again] == [(b"0", True), (b"1", True), (b"2", True)]


async def test_acknowledging_one_twice_does_not_acknowledge_another(bus: RabbitMQBus) -> None:
    await publish(bus, 2)
    inbox = Inbox()
    await bus.consume(TRAIN, inbox, prefetch=1)
    first, _ = await inbox.holds(2)
    await first.ack()
    await first.ack()
    await bus.close()
    await bus.start()
    await depth_is(bus, TRAIN, 1)


async def test_a_handler_that_fails_takes_none_of_the_others_along(bus: RabbitMQBus) -> None:
    handled: asyncio.Queue[bytes] = asyncio.Queue()

    async def handle(message: Incoming) -> None:
        if message.body == b"0" and not message.redelivered:
            raise RuntimeError("broken")
        await message.ack()
        await handled.put(message.body)

    await publish(bus, 2)
    await bus.consume(TRAIN, handle, prefetch=1)
    async with asyncio.timeout(10):
        seen = {await handled.get() for _ in range(3)}
    assert seen == {b"0", b"1"}
    await depth_is(bus, TRAIN, 0)


async def test_those_that_shared_are_browsed_each_as_itself_and_stay_apart(bus: RabbitMQBus) -> None:
    await publish(bus, 3)
    async with bus.browse(TRAIN, 10) as found:
        assert [message.body for message in found] == [b"0", b"1", b"2"]
    await depth_is(bus, TRAIN, 3)


async def test_one_of_those_that_shared_can_be_deleted_alone(bus: RabbitMQBus) -> None:
    await publish(bus, 3)
    async with bus.browse(TRAIN, 10) as found:
        await found[1].ack()
    async with bus.browse(TRAIN, 10) as found:
        assert [message.body for message in found] == [b"0", b"2"]
