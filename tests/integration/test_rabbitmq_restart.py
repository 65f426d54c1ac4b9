"""What becomes of the bus when the broker goes away and comes back."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from uuid import uuid4

import aio_pika
import pytest

from contracts.tasks import Phase
from contracts.topology import CLAIMS, CLAIMS_QUEUE, COMMANDS, PHASE_QUEUES, SIGNALS
from infra.bus.port import BusUnavailable, Incoming, Outgoing, PublishFailed
from infra.bus.rabbitmq import RabbitMQBus
from infra.stack.rabbitmq import RabbitMQNode
from tests import servers
from tests.conformance.buses import reply

TRAIN = PHASE_QUEUES[Phase.TRAIN].name
PATIENCE = 30.0


@pytest.fixture
def node(rabbitmq: servers.Broker) -> RabbitMQNode:
    if rabbitmq.node is None:
        pytest.skip("needs a RabbitMQ that the tests may stop: rabbitmq-server on this machine")
    return rabbitmq.node


async def restart(node: RabbitMQNode) -> None:
    await node.stop_app()
    await node.start_app()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not condition():  # noqa: ASYNC110 - `attached` is a property; nothing announces that it changed
            await asyncio.sleep(0.02)


async def publish_until_confirmed(bus: RabbitMQBus, message: Outgoing) -> None:
    async with asyncio.timeout(PATIENCE):
        while (await bus.publish_all([message]))[0] is not None:  # noqa: ASYNC110 - as its callers do
            await asyncio.sleep(0.1)


def command(body: bytes = b"{}") -> Outgoing:
    return Outgoing(COMMANDS.name, "train", body, str(uuid4()))


async def test_everything_comes_back_after_a_restart_of_the_broker(bus: RabbitMQBus, node: RabbitMQNode) -> None:
    commands: asyncio.Queue[bytes] = asyncio.Queue()
    signals: asyncio.Queue[bytes] = asyncio.Queue()

    async def take_command(message: Incoming) -> None:
        await message.ack()
        await commands.put(message.body)

    async def take_signal(message: Incoming) -> None:
        await signals.put(message.body)

    async def answer(message: Incoming) -> None:
        await message.ack()
        await bus.publish(reply(message, b"granted"))

    consumer = await bus.consume(TRAIN, take_command, prefetch=1)
    listener = await bus.listen(SIGNALS.name, "", take_signal)
    claims = await bus.consume(CLAIMS_QUEUE.name, answer, prefetch=1)
    claim = Outgoing(CLAIMS.name, "claim", b"{}", "c")
    assert await bus.request(claim, timeout=PATIENCE) == b"granted"
    all_three = (consumer, listener, claims)

    await node.stop_app()
    await until(lambda: not any(each.attached for each in all_three))
    with pytest.raises(PublishFailed):
        await bus.publish(command())
    await node.start_app()
    await until(lambda: all(each.attached for each in all_three))

    await publish_until_confirmed(bus, command(b"after"))
    await publish_until_confirmed(bus, Outgoing(SIGNALS.name, "", b"cancel", "s", mandatory=False))
    assert await asyncio.wait_for(commands.get(), PATIENCE) == b"after"
    assert await asyncio.wait_for(signals.get(), PATIENCE) == b"cancel"
    assert await bus.request(claim, timeout=PATIENCE) == b"granted"


async def test_a_request_whose_reply_cannot_come_any_more_fails_at_once(bus: RabbitMQBus, node: RabbitMQNode) -> None:
    asked = asyncio.Event()

    async def take(_: Incoming) -> None:
        asked.set()

    await bus.consume(CLAIMS_QUEUE.name, take, prefetch=1)
    waiting = asyncio.create_task(bus.request(Outgoing(CLAIMS.name, "claim", b"{}", "c"), timeout=10 * PATIENCE))
    await asyncio.wait_for(asked.wait(), PATIENCE)
    await restart(node)
    with pytest.raises(PublishFailed, match="before the reply"):
        await asyncio.wait_for(waiting, PATIENCE)


async def test_a_consumer_comes_back_once(bus: RabbitMQBus, node: RabbitMQNode, bus_url: str) -> None:
    async def take(message: Incoming) -> None:
        await message.ack()

    consumer = await bus.consume(TRAIN, take, prefetch=1)
    await node.stop_app()
    await until(lambda: not consumer.attached)
    await node.start_app()
    await until(lambda: consumer.attached)
    async with await aio_pika.connect(bus_url) as connection:
        queue = await (await connection.channel()).declare_queue(TRAIN, passive=True)
    assert queue.declaration_result.consumer_count == 1


async def test_a_restart_cancels_the_handler_and_brings_its_message_again(bus: RabbitMQBus, node: RabbitMQNode) -> None:
    started, cancelled = asyncio.Event(), asyncio.Event()
    again: asyncio.Queue[Incoming] = asyncio.Queue()

    async def handler(message: Incoming) -> None:
        if message.redelivered:
            await message.ack()
            await again.put(message)
            return
        started.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    await bus.consume(TRAIN, handler, prefetch=1)
    await bus.publish(command(b"once more"))
    await asyncio.wait_for(started.wait(), PATIENCE)
    await restart(node)
    assert cancelled.is_set()
    assert (await asyncio.wait_for(again.get(), PATIENCE)).body == b"once more"


async def test_settling_after_the_connection_was_lost_is_harmless(bus: RabbitMQBus, node: RabbitMQNode) -> None:
    taken: list[Incoming] = []

    async def keep(message: Incoming) -> None:
        taken.append(message)

    await bus.consume(TRAIN, keep, prefetch=1)
    await bus.publish(command())
    await until(lambda: len(taken) == 1)
    await node.stop_app()
    await taken[0].ack()
    await node.start_app()
    await until(lambda: len(taken) == 2)
    assert taken[1].redelivered


async def test_a_consumer_cancelled_while_the_broker_is_away_stays_cancelled(
    bus: RabbitMQBus, node: RabbitMQNode
) -> None:
    async def take(message: Incoming) -> None:
        await message.ack()

    cancelled = await bus.consume(TRAIN, take, prefetch=1)
    witness = await bus.listen(SIGNALS.name, "", take)
    await node.stop_app()
    await until(lambda: not witness.attached)
    await cancelled.cancel()
    await node.start_app()
    await until(lambda: witness.attached)
    await publish_until_confirmed(bus, command())
    assert await bus.depth(TRAIN) == 1


async def test_a_deleted_queue_is_declared_again_with_its_consumer(bus: RabbitMQBus, bus_url: str) -> None:
    taken = asyncio.Event()

    async def take(message: Incoming) -> None:
        await message.ack()
        taken.set()

    await bus.consume(CLAIMS_QUEUE.name, take, prefetch=1)
    async with await aio_pika.connect(bus_url) as connection:
        await (await connection.channel()).queue_delete(CLAIMS_QUEUE.name)
    await publish_until_confirmed(bus, Outgoing(CLAIMS.name, "claim", b"{}", "c"))
    await asyncio.wait_for(taken.wait(), PATIENCE)


async def test_a_wiped_broker_gets_its_topology_again(bus: RabbitMQBus, node: RabbitMQNode, bus_url: str) -> None:
    taken = asyncio.Event()

    async def take(message: Incoming) -> None:
        await message.ack()
        taken.set()

    await bus.consume(TRAIN, take, prefetch=1)
    await node.stop_app()
    await node.control("force_reset")
    await node.start_app()
    await publish_until_confirmed(bus, command())
    await asyncio.wait_for(taken.wait(), PATIENCE)
    await publish_until_confirmed(bus, Outgoing(CLAIMS.name, "claim", b"{}", "c"))


async def test_a_queue_with_other_arguments_is_named(bus_url: str) -> None:
    name = CLAIMS_QUEUE.name
    async with await aio_pika.connect(bus_url) as connection:
        channel = await connection.channel()
        await channel.queue_delete(name)
        await channel.declare_queue(name, durable=True, arguments={"x-max-length": 3})
        with pytest.raises(BusUnavailable, match=rf"queue {name} exists with other arguments"):
            await RabbitMQBus(bus_url).start()
        await channel.queue_delete(name)


async def test_a_wrong_password_is_named_and_not_shown(bus_url: str) -> None:
    scheme, _, rest = bus_url.partition("://")
    wrong = f"{scheme}://treadle:not-this-one@{rest.rpartition('@')[2]}"
    with pytest.raises(BusUnavailable, match="refuses the user or the password") as caught:
        await RabbitMQBus(wrong).start()
    assert "not-this-one" not in str(caught.value)


@pytest.mark.parametrize("address", ["amqp://treadle@127.0.0.1:1/", "amqp://a:b@127.0.0.1:1/?heartbeat=often"])
async def test_an_odd_address_is_no_traceback(address: str) -> None:
    with pytest.raises(BusUnavailable, match="TREADLE_BUS_URL"):
        await RabbitMQBus(address).start()


async def test_a_broker_that_is_not_there_is_named_and_says_what_to_check() -> None:
    with pytest.raises(BusUnavailable, match=r"RabbitMQ at amqp://127\.0\.0\.1:1/ does not answer"):
        await RabbitMQBus("amqp://treadle:secret@127.0.0.1:1/").start()
