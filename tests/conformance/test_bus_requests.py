"""Listeners, requests with their replies, and browsing a queue; each test runs on both adapters."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest

from contracts.topology import (
    CLAIMS_QUEUE,
    PROGRESS,
    SIGNALS,
)
from infra.bus.port import Bus, BusUnavailable, IncomingMessage, RequestTimedOut, Unroutable
from tests.conformance.buses import TIMEOUT, TRAIN, AckingRecorder, Recorder, claim, depth_is, outgoing, reply, until


@pytest.mark.parametrize(
    ("binding", "expected"),
    [("task.*", [b"task.1"]), ("task.#", [b"task.1", b"task.1.train"]), ("*.1.train", [b"task.1.train"])],
)
async def test_listeners_bind_by_topic(bus: Bus, binding: str, expected: list[bytes]) -> None:
    recorder = Recorder()
    await bus.listen(PROGRESS.name, binding, recorder)
    last = AckingRecorder()
    await bus.listen(PROGRESS.name, "#", last)
    for key in ("task.1", "task.1.train", "other"):
        await bus.publish(outgoing(key.encode(), PROGRESS, key, mandatory=False))
    await last.received(3)
    await recorder.received(len(expected))
    assert recorder.bodies == expected


async def test_a_signal_reaches_every_listener(bus: Bus) -> None:
    recorders = [Recorder(), Recorder(), Recorder()]
    for recorder in recorders:
        await bus.listen(SIGNALS.name, "", recorder)
    await bus.publish(outgoing(b"cancel", SIGNALS, "", mandatory=False, persistent=False))
    for recorder in recorders:
        await recorder.received(1)
    assert [recorder.bodies for recorder in recorders] == [[b"cancel"]] * 3


async def test_a_listener_receives_messages_one_at_a_time_and_in_order(bus: Bus) -> None:
    running, most, recorder = 0, 0, Recorder()

    async def listener(message: IncomingMessage) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0)
        running -= 1
        await recorder(message)

    await bus.listen(PROGRESS.name, "#", listener)
    for number in range(30):
        await bus.publish(outgoing(str(number).encode(), PROGRESS, "p", mandatory=False))
    await recorder.received(30)
    assert (most, recorder.bodies) == (1, [str(number).encode() for number in range(30)])


async def test_a_listener_that_raises_receives_the_next_message_and_not_the_same_again(bus: Bus) -> None:
    recorder = Recorder()

    async def broken(message: IncomingMessage) -> None:
        await recorder(message)
        raise ValueError("every time")

    await bus.listen(PROGRESS.name, "#", broken)
    await bus.publish(outgoing(b"1", PROGRESS, "p"))
    await bus.publish(outgoing(b"2", PROGRESS, "p"))
    await recorder.received(2)
    assert recorder.bodies == [b"1", b"2"]


async def test_a_cancelled_listener_leaves_no_queue_behind(bus: Bus) -> None:
    subscription = await bus.listen(PROGRESS.name, "#", Recorder())
    await subscription.cancel()
    with pytest.raises(Unroutable):
        await bus.publish(outgoing(exchange=PROGRESS, key="p"))


async def test_a_slow_listener_loses_the_oldest(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("infra.bus.inprocess_broker", "infra.bus.rabbitmq.topology"):
        monkeypatch.setattr(f"{module}.PRIVATE_QUEUE_LENGTH", 5)
    go_on, recorder = asyncio.Event(), Recorder()

    async def slow(message: IncomingMessage) -> None:
        await go_on.wait()
        await recorder(message)

    await bus.listen(PROGRESS.name, "#", slow)
    for number in range(300):
        await bus.publish(outgoing(str(number).encode(), PROGRESS, "p"))
    go_on.set()

    async def received_the_last() -> bool:
        return b"299" in recorder.bodies

    await until(received_the_last)
    assert len(recorder.bodies) < 300


async def test_a_request_gets_its_reply(bus: Bus) -> None:
    async def answer(message: IncomingMessage) -> None:
        await bus.publish(reply(message, b"re: " + message.body))
        await message.ack()

    await bus.consume(CLAIMS_QUEUE.name, answer, prefetch=10)
    requests = [bus.request(claim(str(number).encode()), timeout=TIMEOUT) for number in range(10)]
    assert await asyncio.gather(*requests) == [f"re: {number}".encode() for number in range(10)]


async def test_a_request_without_a_reply_times_out(bus: Bus) -> None:
    with pytest.raises(RequestTimedOut):
        await bus.request(claim(), timeout=0.2)


async def test_a_request_that_no_queue_takes_is_unroutable(bus: Bus) -> None:
    with pytest.raises(Unroutable, match=PROGRESS.name):
        await bus.request(outgoing(exchange=PROGRESS, key="p"), timeout=TIMEOUT)


async def test_a_reply_to_a_request_that_timed_out_is_dropped(bus: Bus) -> None:
    late = Recorder()
    await bus.consume(CLAIMS_QUEUE.name, late, prefetch=10)
    with pytest.raises(RequestTimedOut):
        await bus.request(claim(b"1", correlation_id="first", expires=TIMEOUT), timeout=0.2)
    again = asyncio.create_task(bus.request(claim(b"2"), timeout=TIMEOUT))
    await late.received(2)
    for message in late.messages:
        await bus.publish(reply(message, b"re: " + message.body))
    assert await again == b"re: 2"


async def test_a_request_expires_when_it_times_out(bus: Bus) -> None:
    with pytest.raises(RequestTimedOut):
        await bus.request(claim(), timeout=0.2)
    await depth_is(bus, CLAIMS_QUEUE.name, 0)


async def test_an_expired_message_is_not_delivered(bus: Bus) -> None:
    await bus.publish(claim(b"old", expires=0.05))
    await depth_is(bus, CLAIMS_QUEUE.name, 0)
    await bus.publish(claim(b"new"))
    recorder = AckingRecorder()
    await bus.consume(CLAIMS_QUEUE.name, recorder, prefetch=1)
    await recorder.received(1)
    assert recorder.bodies == [b"new"]


async def test_the_depth_of_an_unknown_queue_is_an_error(bus: Bus) -> None:
    with pytest.raises(BusUnavailable, match=r"treadle\.unknown"):
        await bus.depth("treadle.unknown")


async def test_browsing_leaves_messages_and_their_order(bus: Bus) -> None:
    for body in (b"1", b"2", b"3", b"4"):
        await bus.publish(outgoing(body))
    for _ in range(2):
        async with bus.browse(TRAIN, 3) as messages:
            assert [message.body for message in messages] == [b"1", b"2", b"3"]
    recorder = AckingRecorder()
    await bus.consume(TRAIN, recorder, prefetch=10)
    await recorder.received(4)
    assert recorder.bodies == [b"1", b"2", b"3", b"4"]


async def test_a_message_acknowledged_while_browsing_is_removed(bus: Bus) -> None:
    for body in (b"1", b"2", b"3"):
        await bus.publish(outgoing(body))
    async with bus.browse(TRAIN, 10) as messages:
        await messages[1].ack()
    async with bus.browse(TRAIN, 10) as messages:
        assert [message.body for message in messages] == [b"1", b"3"]


async def test_a_message_is_not_delivered_while_it_is_browsed(bus: Bus) -> None:
    await bus.publish(outgoing(b"browsed"))
    recorder = AckingRecorder()
    async with bus.browse(TRAIN, 1):
        await bus.consume(TRAIN, recorder, prefetch=10)
        await bus.publish(outgoing(b"consumed"))
        await recorder.received(1)
        assert recorder.bodies == [b"consumed"]
    await recorder.received(2)


async def test_a_browse_that_raises_requeues_all_messages(bus: Bus) -> None:
    await bus.publish(outgoing())
    with pytest.raises(ZeroDivisionError):
        async with bus.browse(TRAIN, 10):
            raise ZeroDivisionError
    await depth_is(bus, TRAIN, 1)


async def test_a_browsed_message_has_the_time_of_its_publication(bus: Bus) -> None:
    before = datetime.now(UTC).replace(microsecond=0)
    await bus.publish(outgoing())
    async with bus.browse(TRAIN, 1) as (message,):
        assert message.published_at is not None
        assert before <= message.published_at <= datetime.now(UTC)


async def test_an_unknown_queue_cannot_be_browsed(bus: Bus) -> None:
    with pytest.raises(BusUnavailable, match=r"treadle\.unknown"):
        async with bus.browse("treadle.unknown", 1):
            pass
