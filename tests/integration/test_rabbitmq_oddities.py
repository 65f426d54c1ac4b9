"""Unusual messages and connections of a broker or of another publisher do not affect other messages."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from urllib.parse import urlsplit
from uuid import uuid4

import pika
import pytest

from contracts.topology import COMMANDS, CONTROL_QUEUE, DEAD, DEAD_QUEUE, EVENTS, PHASE_QUEUES
from infra.bus.dead_letter import dead_letter
from infra.bus.port import BusUnavailable, OutgoingMessage, PublishFailed, Unroutable
from infra.bus.rabbitmq import RabbitMQBus, messages, publisher
from infra.bus.rabbitmq import bus as rabbitmq_bus
from infra.bus.rabbitmq.bus import HEARTBEAT, RECONNECT_AFTER
from infra.bus.rabbitmq.calls import CALL_TIMEOUT
from infra.loop import run
from tests import servers
from tests.chaos.proxy import Proxy
from tests.conformance.buses import AckingRecorder, depth_is

TRAIN = PHASE_QUEUES["train"].name  # type: ignore[index]  # a Phase is its string
MILLISECONDS, MICROSECONDS = 1_795_000_000_000, 1_795_000_000_000_000
TIMEOUT = 20.0


def command(body: bytes = b"{}") -> OutgoingMessage:
    return OutgoingMessage(COMMANDS.name, "train", body, str(uuid4()))


async def publish_to_the_queue(bus_url: str, body: bytes, **properties: object) -> None:
    """Publish with pika, because most libraries refuse to send such properties."""
    await publish_unchecked(bus_url, "", TRAIN, body, **properties)


async def publish_unchecked(
    bus_url: str, exchange: str, routing_key: str | bytes, body: bytes, **properties: object
) -> None:
    def publish() -> None:
        with pika.BlockingConnection(pika.URLParameters(bus_url)) as connection:
            connection.channel().basic_publish(exchange, routing_key, body, pika.BasicProperties(**properties))

    await asyncio.to_thread(publish)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(TIMEOUT):
        while not condition():  # noqa: ASYNC110 - no event announces the change
            await asyncio.sleep(0.02)


ODD = [
    {"timestamp": MILLISECONDS},
    {"timestamp": MICROSECONDS},
    {"timestamp": 2**64 - 1},
    {"message_id": b"\xff\xfe"},
    {"headers": {"when": b"\xff"}, "content_type": "\x00"},
    {"priority": 255, "expiration": "60000", "type": b"\xff"},
]


@pytest.mark.parametrize("properties", ODD, ids=[next(iter(odd)) + str(number) for number, odd in enumerate(ODD)])
async def test_a_message_with_odd_properties_is_handled_like_any_other(
    bus: RabbitMQBus, bus_url: str, properties: dict[str, object]
) -> None:
    recorder = AckingRecorder()
    await bus.consume(TRAIN, recorder, prefetch=1)
    await publish_to_the_queue(bus_url, b"odd", **properties)
    (message,) = await recorder.received(1)
    assert (message.body, message.redelivered) == (b"odd", False)


async def test_a_message_with_odd_properties_can_be_browsed(bus: RabbitMQBus, bus_url: str) -> None:
    await publish_to_the_queue(bus_url, b"odd", timestamp=MICROSECONDS)
    async with bus.browse(TRAIN, 10) as (message,):
        assert (message.body, message.published_at) == (b"odd", None)


async def test_only_a_property_that_cannot_be_decoded_is_lost(bus: RabbitMQBus, bus_url: str) -> None:
    recorder = AckingRecorder()
    await bus.consume(TRAIN, recorder, prefetch=1)
    await publish_to_the_queue(
        bus_url, b"odd", timestamp=MICROSECONDS, message_id="m", reply_to="r", headers={"a": "b"}
    )
    (message,) = await recorder.received(1)
    assert (message.message_id, message.reply_to, message.headers) == ("m", "r", {"a": "b"})
    assert message.published_at is None


async def test_a_routing_key_that_is_not_utf_8_is_delivered_and_can_be_dead_lettered(
    bus: RabbitMQBus, bus_url: str
) -> None:
    recorder = AckingRecorder()
    await bus.consume(CONTROL_QUEUE.name, recorder, prefetch=1)
    await publish_unchecked(bus_url, EVENTS.name, b"\xffkey" * 50, b"odd", message_id=b"\xff" * 255)
    (message,) = await recorder.received(1)
    assert (message.body, message.routing_key, message.redelivered) == (b"odd", "key" * 50, False)
    await dead_letter(bus, message, CONTROL_QUEUE.name, "a reason", "ACause")
    async with bus.browse(DEAD_QUEUE.name, 1) as (letter,):
        assert letter.body == b"odd"


async def test_closed_channels_leave_no_callbacks_behind(bus: RabbitMQBus) -> None:
    async def close_callbacks() -> int:
        await bus.depth(TRAIN)
        subscription = await bus.consume(TRAIN, AckingRecorder(), prefetch=1)
        await subscription.cancel()
        assert bus._consuming is not None
        assert bus._consuming.transport is not None
        return len(bus._consuming.transport.connection._closing._callbacks)  # type: ignore[attr-defined]

    before = await close_callbacks()
    for _ in range(10):
        after = await close_callbacks()
    assert after <= before + 2


async def test_the_connection_to_a_silent_broker_is_closed_and_its_consumers_come_back(
    bus_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rabbitmq_bus, "HEARTBEAT", 1)
    proxy = await proxied(bus_url)
    bus = RabbitMQBus(through(proxy, bus_url))
    await bus.start()
    recorder = AckingRecorder()
    subscription = await bus.consume(TRAIN, recorder, prefetch=1)
    proxy.stall()
    with pytest.raises(BusUnavailable):  # before the time limit of the call
        await asyncio.wait_for(bus.depth(TRAIN), 0.9 * CALL_TIMEOUT)
    await until(lambda: not subscription.attached)
    proxy.flow()
    await until(lambda: subscription.attached)
    await until_confirmed(bus, command(b"afterwards"))
    await recorder.received(1)
    await bus.close()
    await proxy.stop()


async def test_a_message_without_an_id_that_no_queue_takes_is_refused(bus: RabbitMQBus) -> None:
    with pytest.raises(Unroutable):
        await bus.publish(OutgoingMessage(COMMANDS.name, "nowhere", b"{}", ""))


async def test_a_dead_letter_without_an_id_is_kept(bus: RabbitMQBus) -> None:
    await bus.publish(OutgoingMessage(DEAD.name, "train", b"{}", ""))
    await depth_is(bus, DEAD_QUEUE.name, 1)


async def test_a_message_is_not_sent_repeatedly_while_the_broker_blocks_publishers(
    bus: RabbitMQBus, rabbitmq: servers.Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = rabbitmq.node
    if node is None:
        pytest.skip("needs a private RabbitMQ")
    monkeypatch.setattr(publisher, "PUBLISH_TIMEOUT", 1.0)
    await node.control("set_vm_memory_high_watermark", "0.0000001")
    try:
        answers = [(await bus.publish_all([command(b"once")]))[0] for _ in range(4)]
    finally:
        await node.control("set_vm_memory_high_watermark", "0.6")
    assert all(isinstance(answer, PublishFailed) for answer in answers)
    await until_confirmed(bus, command(b"afterwards"))
    assert await bus.depth(TRAIN) == 2


async def until_confirmed(bus: RabbitMQBus, message: OutgoingMessage) -> None:
    async with asyncio.timeout(TIMEOUT):
        while (await bus.publish_all([message]))[0] is not None:  # noqa: ASYNC110 - the product retries like this
            await asyncio.sleep(0.05)


async def test_an_interrupted_cancel_leaves_no_consumer(bus: RabbitMQBus) -> None:
    recorder = AckingRecorder()
    subscription = await bus.consume(TRAIN, recorder, prefetch=1)
    cancelling = asyncio.create_task(subscription.cancel())
    await asyncio.sleep(0)
    cancelling.cancel()
    await asyncio.wait([cancelling])
    assert not subscription.attached
    await bus.publish(command())
    await depth_is(bus, TRAIN, 1)


async def test_a_bus_that_is_closed_while_it_starts_leaves_no_asyncio_task_behind(bus_url: str) -> None:
    bus = RabbitMQBus(bus_url)
    before = asyncio.all_tasks()
    starting = asyncio.create_task(bus.start())
    await asyncio.sleep(0)
    await bus.close()
    with pytest.raises(BusUnavailable):
        await starting
    await until(lambda: asyncio.all_tasks() <= before)


async def test_reconnections_to_a_broker_that_closes_them_at_once_have_a_pause(bus_url: str) -> None:
    accepted = 0

    async def close(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal accepted
        accepted += 1
        writer.close()

    proxy = await proxied(bus_url)
    bus = RabbitMQBus(through(proxy, bus_url))
    await bus.start()
    await proxy.stop()
    began = asyncio.get_running_loop().time()
    async with await asyncio.start_server(close, "127.0.0.1", proxy.port):
        await until(lambda: accepted >= 6)  # three for each of the two connections
        await bus.close()
    assert asyncio.get_running_loop().time() - began >= 2 * RECONNECT_AFTER


async def test_a_delivery_that_cannot_be_converted_is_converted_again(
    bus: RabbitMQBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = iter([True])

    def once_broken(value: object) -> str:
        if next(broken, False):
            raise RuntimeError("unforeseen")
        return str(value)

    monkeypatch.setattr(messages, "_text", once_broken)
    recorder = AckingRecorder()
    await bus.consume(TRAIN, recorder, prefetch=1)
    await bus.publish(OutgoingMessage(COMMANDS.name, "train", b"again", "m", {"a": "b"}))
    (message,) = await recorder.received(1)
    assert (message.body, message.redelivered) == (b"again", False)


def test_a_reset_is_noticed_before_a_missed_heartbeat_on_the_event_loop_of_the_services(bus_url: str) -> None:
    run(check_after_a_reset(bus_url))


async def check_after_a_reset(bus_url: str) -> None:
    proxy = await proxied(bus_url)
    bus = RabbitMQBus(through(proxy, bus_url))
    await bus.start()
    recorder = AckingRecorder()
    await bus.consume(TRAIN, recorder, prefetch=1)
    proxy.reset()
    async with asyncio.timeout(0.8 * HEARTBEAT):
        await until_confirmed(bus, command(b"afterwards"))
        await recorder.received(1)
    await bus.close()
    await proxy.stop()


async def proxied(bus_url: str) -> Proxy:
    """Start a proxy in front of the broker."""
    port = urlsplit(bus_url).port
    assert port is not None
    proxy = Proxy(lambda: port)
    await proxy.start()
    return proxy


def through(proxy: Proxy, bus_url: str) -> str:
    """The broker's address through the proxy."""
    return bus_url.replace(f":{urlsplit(bus_url).port}/", f":{proxy.port}/")
