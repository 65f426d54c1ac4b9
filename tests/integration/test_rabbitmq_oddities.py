"""What a broker, or whoever else publishes to it, may do to the bus: none of it may cost more than itself."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from urllib.parse import urlsplit
from uuid import uuid4

import pika
import pytest

from contracts.topology import COMMANDS, DEAD, DEAD_QUEUE, PHASE_QUEUES
from infra.bus import rabbitmq_consumer, rabbitmq_publisher
from infra.bus.port import BusUnavailable, Incoming, Outgoing, PublishFailed, Unroutable
from infra.bus.rabbitmq import RabbitMQBus
from infra.bus.rabbitmq_link import HEARTBEAT, RECONNECT_AFTER, Link
from infra.bus.rabbitmq_sharing import TOGETHER
from infra.loop import run
from tests import servers
from tests.chaos.proxy import Proxy
from tests.conformance.buses import AckingInbox, Inbox, depth_is

TRAIN = PHASE_QUEUES["train"].name  # type: ignore[index]  # a Phase is its string
MILLISECONDS = 1_795_000_000_000
PATIENCE = 20.0


def command(body: bytes = b"{}") -> Outgoing:
    return Outgoing(COMMANDS.name, "train", body, str(uuid4()))


async def publish_as_others_do(bus_url: str, body: bytes, **properties: object) -> None:
    """By hand: most libraries refuse to send what some send."""

    def publish() -> None:
        with pika.BlockingConnection(pika.URLParameters(bus_url)) as connection:
            connection.channel().basic_publish("", TRAIN, body, pika.BasicProperties(**properties))

    await asyncio.to_thread(publish)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not condition():  # noqa: ASYNC110 - nothing announces it
            await asyncio.sleep(0.02)


@pytest.mark.parametrize(
    ("body", "properties"),
    [
        (b"when", {"timestamp": MILLISECONDS}),
        (b"not an array", {"content_type": TOGETHER}),
        (b"[]", {"content_type": TOGETHER}),
        (b'[{"message_id": 1}]', {"content_type": TOGETHER}),
    ],
)
async def test_an_odd_message_is_handled_like_any_other(
    bus: RabbitMQBus, bus_url: str, body: bytes, properties: dict[str, object]
) -> None:
    inbox = AckingInbox()
    await bus.consume(TRAIN, inbox, prefetch=1)
    await publish_as_others_do(bus_url, body, **properties)
    (message,) = await inbox.holds(1)
    assert (message.body, message.redelivered) == (body, False)


async def test_an_odd_message_can_be_browsed(bus: RabbitMQBus, bus_url: str) -> None:
    await publish_as_others_do(bus_url, b"odd", timestamp=MILLISECONDS, content_type=TOGETHER)
    async with bus.browse(TRAIN, 10) as (message,):
        assert (message.body, message.published_at) == (b"odd", None)


async def test_what_the_broker_writes_upon_several_messages_is_upon_each(bus: RabbitMQBus) -> None:
    inbox = Inbox()
    await bus.publish_all([Outgoing(COMMANDS.name, "train", b"1", str(n), {"own": str(n)}, shared=True) for n in "ab"])
    await bus.consume(TRAIN, inbox, prefetch=1)
    first, _ = await inbox.holds(2)
    await first.requeue()
    *_, third, fourth = await inbox.holds(4)
    assert [(m.headers["own"], m.headers["x-delivery-count"]) for m in (third, fourth)] == [("a", "1"), ("b", "1")]


async def test_a_message_without_an_id_that_no_queue_takes_is_refused(bus: RabbitMQBus) -> None:
    with pytest.raises(Unroutable):
        await bus.publish(Outgoing(COMMANDS.name, "nobody", b"{}", ""))


async def test_a_dead_letter_without_an_id_is_kept(bus: RabbitMQBus) -> None:
    await bus.publish(Outgoing(DEAD.name, "train", b"{}", ""))
    await depth_is(bus, DEAD_QUEUE.name, 1)


async def test_a_broker_that_blocks_publishers_is_not_sent_the_same_again_and_again(
    bus: RabbitMQBus, rabbitmq: servers.Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = rabbitmq.node
    if node is None:
        pytest.skip("needs a RabbitMQ of the tests' own")
    monkeypatch.setattr(rabbitmq_publisher, "PUBLISH_TIMEOUT", 1.0)
    await node.control("set_vm_memory_high_watermark", "0.0000001")
    try:
        answers = [(await bus.publish_all([command(b"once")]))[0] for _ in range(4)]
    finally:
        await node.control("set_vm_memory_high_watermark", "0.6")
    assert all(isinstance(answer, PublishFailed) for answer in answers)
    await until_confirmed(bus, command(b"afterwards"))
    assert await bus.depth(TRAIN) == 2


async def until_confirmed(bus: RabbitMQBus, message: Outgoing) -> None:
    async with asyncio.timeout(PATIENCE):
        while (await bus.publish_all([message]))[0] is not None:  # noqa: ASYNC110 - as its callers do
            await asyncio.sleep(0.05)


async def test_a_cancel_that_is_broken_off_leaves_no_consumer(bus: RabbitMQBus) -> None:
    inbox = AckingInbox()
    subscription = await bus.consume(TRAIN, inbox, prefetch=1)
    cancelling = asyncio.create_task(subscription.cancel())
    await asyncio.sleep(0)
    cancelling.cancel()
    await asyncio.wait([cancelling])
    assert not subscription.attached
    await bus.publish(command())
    await depth_is(bus, TRAIN, 1)


async def test_a_bus_that_is_closed_while_it_starts_leaves_nothing_behind(bus_url: str) -> None:
    bus = RabbitMQBus(bus_url)
    before = asyncio.all_tasks()
    starting = asyncio.create_task(bus.start())
    await asyncio.sleep(0)
    await bus.close()
    with pytest.raises(BusUnavailable):
        await starting
    await until(lambda: asyncio.all_tasks() <= before)


class Flapping(Link):
    """A broker that hangs up as soon as it has answered."""

    calls = 0

    async def _connect(self) -> None:
        loop = asyncio.get_running_loop()
        self.calls += 1
        self._since, self._lost = loop.time(), loop.create_future()
        self._lost.set_result(ConnectionResetError("not you again"))


async def test_a_broker_that_hangs_up_at_once_is_not_called_without_a_pause() -> None:
    link = Flapping("amqp://nobody@127.0.0.1:1/", "test")
    began = asyncio.get_running_loop().time()
    await link.start()
    await until(lambda: link.calls == 3)
    await link.close()
    assert asyncio.get_running_loop().time() - began >= 2 * RECONNECT_AFTER


async def test_nothing_is_raised_into_the_connection_by_a_delivery_that_cannot_be_begun(
    bus: RabbitMQBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = iter([True])

    def once_broken(*given: object) -> Incoming:
        if next(broken, False):
            raise RuntimeError("nobody foresaw this")
        return real(*given)

    real = rabbitmq_consumer.to_incoming
    monkeypatch.setattr(rabbitmq_consumer, "to_incoming", once_broken)
    inbox = AckingInbox()
    await bus.consume(TRAIN, inbox, prefetch=1)
    await bus.publish(command(b"again"))
    (message,) = await inbox.holds(1)
    assert (message.body, message.redelivered) == (b"again", True)


def test_on_the_loop_that_services_run_on_a_reset_is_noticed_before_a_heartbeat_is_missed(bus_url: str) -> None:
    run(through_a_reset(bus_url))


async def through_a_reset(bus_url: str) -> None:
    port = urlsplit(bus_url).port
    assert port is not None
    proxy = Proxy(lambda: port)
    await proxy.start()
    bus = RabbitMQBus(bus_url.replace(f":{port}/", f":{proxy.port}/"))
    await bus.start()
    inbox = AckingInbox()
    await bus.consume(TRAIN, inbox, prefetch=1)
    proxy.reset()
    async with asyncio.timeout(0.8 * HEARTBEAT):
        await until_confirmed(bus, command(b"afterwards"))
        await inbox.holds(1)
    await bus.close()
    await proxy.stop()
