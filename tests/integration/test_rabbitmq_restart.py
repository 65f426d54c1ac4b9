"""The bus recovers when the broker stops and starts again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from uuid import uuid4

import aio_pika
import pytest

from contracts.tasks import Phase
from contracts.topology import CLAIMS, CLAIMS_QUEUE, COMMANDS, PHASE_QUEUES, SIGNALS
from infra.bus.port import BusUnavailable, IncomingMessage, OutgoingMessage, PublishFailed
from infra.bus.rabbitmq import RabbitMQBus
from infra.stack.rabbitmq import RabbitMQNode
from tests import servers
from tests.conformance.buses import reply

TRAIN = PHASE_QUEUES[Phase.TRAIN].name
TIMEOUT = 30.0


@pytest.fixture
def node(rabbitmq: servers.Broker) -> RabbitMQNode:
    if rabbitmq.node is None:
        pytest.skip("the test stops the broker, which needs rabbitmq-server on this machine")
    return rabbitmq.node


async def restart(node: RabbitMQNode) -> None:
    await node.stop_app()
    await node.start_app()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(TIMEOUT):
        while not condition():  # noqa: ASYNC110 - `attached` is a property, and no event announces its change
            await asyncio.sleep(0.02)


async def publish_until_confirmed(bus: RabbitMQBus, message: OutgoingMessage) -> None:
    async with asyncio.timeout(TIMEOUT):
        while (await bus.publish_all([message]))[0] is not None:  # noqa: ASYNC110 - the product retries like this
            await asyncio.sleep(0.1)


def command(body: bytes = b"{}") -> OutgoingMessage:
    return OutgoingMessage(COMMANDS.name, "train", body, str(uuid4()))


async def test_all_subscriptions_come_back_after_a_restart_of_the_broker(bus: RabbitMQBus, node: RabbitMQNode) -> None:
    commands: asyncio.Queue[bytes] = asyncio.Queue()
    signals: asyncio.Queue[bytes] = asyncio.Queue()

    async def take_command(message: IncomingMessage) -> None:
        await message.ack()
        await commands.put(message.body)

    async def take_signal(message: IncomingMessage) -> None:
        await signals.put(message.body)

    async def answer(message: IncomingMessage) -> None:
        await message.ack()
        await bus.publish(reply(message, b"granted"))

    consumer = await bus.consume(TRAIN, take_command, prefetch=1)
    listener = await bus.listen(SIGNALS.name, "", take_signal)
    claims = await bus.consume(CLAIMS_QUEUE.name, answer, prefetch=1)
    claim = OutgoingMessage(CLAIMS.name, "claim", b"{}", "c")
    assert await bus.request(claim, timeout=TIMEOUT) == b"granted"
    subscriptions = (consumer, listener, claims)

    await node.stop_app()
    await until(lambda: not any(subscription.attached for subscription in subscriptions))
    with pytest.raises(PublishFailed):
        await bus.publish(command())
    await node.start_app()
    await until(lambda: all(subscription.attached for subscription in subscriptions))

    await publish_until_confirmed(bus, command(b"after"))
    await publish_until_confirmed(bus, OutgoingMessage(SIGNALS.name, "", b"cancel", "s", mandatory=False))
    assert await asyncio.wait_for(commands.get(), TIMEOUT) == b"after"
    assert await asyncio.wait_for(signals.get(), TIMEOUT) == b"cancel"
    assert await bus.request(claim, timeout=TIMEOUT) == b"granted"


async def test_a_request_whose_reply_can_no_longer_arrive_fails_at_once(bus: RabbitMQBus, node: RabbitMQNode) -> None:
    received = asyncio.Event()

    async def take(_: IncomingMessage) -> None:
        received.set()

    await bus.consume(CLAIMS_QUEUE.name, take, prefetch=1)
    waiting = asyncio.create_task(bus.request(OutgoingMessage(CLAIMS.name, "claim", b"{}", "c"), timeout=10 * TIMEOUT))
    await asyncio.wait_for(received.wait(), TIMEOUT)
    await restart(node)
    with pytest.raises(PublishFailed, match="before the reply"):
        await asyncio.wait_for(waiting, TIMEOUT)


async def test_a_consumer_is_restored_only_once(bus: RabbitMQBus, node: RabbitMQNode, bus_url: str) -> None:
    async def take(message: IncomingMessage) -> None:
        await message.ack()

    consumer = await bus.consume(TRAIN, take, prefetch=1)
    await node.stop_app()
    await until(lambda: not consumer.attached)
    await node.start_app()
    await until(lambda: consumer.attached)
    async with await aio_pika.connect(bus_url) as connection:
        queue = await (await connection.channel()).declare_queue(TRAIN, passive=True)
    assert queue.declaration_result.consumer_count == 1


async def test_a_restart_cancels_the_handler_and_redelivers_its_message(bus: RabbitMQBus, node: RabbitMQNode) -> None:
    started, cancelled = asyncio.Event(), asyncio.Event()
    again: asyncio.Queue[IncomingMessage] = asyncio.Queue()

    async def handler(message: IncomingMessage) -> None:
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
    await asyncio.wait_for(started.wait(), TIMEOUT)
    await restart(node)
    assert cancelled.is_set()
    assert (await asyncio.wait_for(again.get(), TIMEOUT)).body == b"once more"


async def test_settling_after_the_connection_was_lost_is_harmless(bus: RabbitMQBus, node: RabbitMQNode) -> None:
    taken: list[IncomingMessage] = []

    async def keep(message: IncomingMessage) -> None:
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
    async def take(message: IncomingMessage) -> None:
        await message.ack()

    cancelled = await bus.consume(TRAIN, take, prefetch=1)
    listener = await bus.listen(SIGNALS.name, "", take)
    await node.stop_app()
    await until(lambda: not listener.attached)
    await cancelled.cancel()
    await node.start_app()
    await until(lambda: listener.attached)
    await publish_until_confirmed(bus, command())
    assert await bus.depth(TRAIN) == 1


async def test_a_deleted_queue_is_declared_again_with_its_consumer(bus: RabbitMQBus, bus_url: str) -> None:
    taken = asyncio.Event()

    async def take(message: IncomingMessage) -> None:
        await message.ack()
        taken.set()

    await bus.consume(CLAIMS_QUEUE.name, take, prefetch=1)
    async with await aio_pika.connect(bus_url) as connection:
        await (await connection.channel()).queue_delete(CLAIMS_QUEUE.name)
    await publish_until_confirmed(bus, OutgoingMessage(CLAIMS.name, "claim", b"{}", "c"))
    await asyncio.wait_for(taken.wait(), TIMEOUT)


async def test_the_topology_is_declared_again_on_a_broker_that_was_reset(
    bus: RabbitMQBus, node: RabbitMQNode, bus_url: str
) -> None:
    taken = asyncio.Event()

    async def take(message: IncomingMessage) -> None:
        await message.ack()
        taken.set()

    await bus.consume(TRAIN, take, prefetch=1)
    await node.stop_app()
    await node.control("force_reset")
    await node.start_app()
    await publish_until_confirmed(bus, command())
    await asyncio.wait_for(taken.wait(), TIMEOUT)
    await publish_until_confirmed(bus, OutgoingMessage(CLAIMS.name, "claim", b"{}", "c"))


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
async def test_a_malformed_address_is_an_error_that_names_the_setting(address: str) -> None:
    with pytest.raises(BusUnavailable, match="TREADLE_BUS_URL"):
        await RabbitMQBus(address).start()


async def test_an_unreachable_broker_is_named_by_its_address() -> None:
    with pytest.raises(BusUnavailable, match=r"RabbitMQ at amqp://127\.0\.0\.1:1/ does not answer"):
        await RabbitMQBus("amqp://treadle:secret@127.0.0.1:1/").start()
