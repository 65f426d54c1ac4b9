"""A message that no handler can handle stops no consumer; each test runs on both adapters."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from contracts.errors import PartUnavailable, TreadleError
from contracts.topology import CLAIMS_QUEUE, DEAD_QUEUE, PROGRESS
from infra.bus import handling
from infra.bus.dead_letter import QUEUE, REASON
from infra.bus.port import Bus, IncomingMessage
from tests.conformance.buses import TIMEOUT, TRAIN, AckingRecorder, Recorder, claim, depth_is, outgoing

PREFETCH = 4
TRIES = 1 + len(handling.RETRY_PAUSES)


class Handler:
    """Raises for each body that starts with `poison`, counts the calls, and records the others in `healthy`."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error or ValueError("unforeseen")
        self.calls: Counter[bytes] = Counter()
        self.healthy = AckingRecorder()

    async def __call__(self, message: IncomingMessage) -> None:
        self.calls[message.body] += 1
        if message.body.startswith(b"poison"):
            raise self.error
        await self.healthy(message)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the pauses between two tries short."""
    monkeypatch.setattr(handling, "RETRY_PAUSES", (0.01, 0.01, 0.01))


async def dead(bus: Bus, count: int) -> list[IncomingMessage]:
    """Wait for so many dead letters."""
    recorder = AckingRecorder()
    await bus.consume(DEAD_QUEUE.name, recorder, prefetch=100)
    return await recorder.received(count)


@pytest.mark.usefixtures("quick")
async def test_a_message_is_handled_again_if_its_handler_raised_once(bus: Bus) -> None:
    handled = asyncio.Event()
    errors = iter([ValueError("the first time")])

    async def broken_once(message: IncomingMessage) -> None:
        if error := next(errors, None):
            raise error
        await message.ack()
        handled.set()

    await bus.consume(TRAIN, broken_once, prefetch=1)
    await bus.publish(outgoing())
    await asyncio.wait_for(handled.wait(), TIMEOUT)
    assert bus.poison.counts.total() == 0


@pytest.mark.usefixtures("quick")
async def test_a_message_that_raises_an_unforeseen_error_four_times_is_a_dead_letter_with_its_reason(bus: Bus) -> None:
    handler = Handler()
    await bus.consume(TRAIN, handler, prefetch=1)
    await bus.publish(outgoing(b"poison"))
    (letter,) = await dead(bus, 1)
    assert (letter.body, letter.routing_key) == (b"poison", "train")
    assert (letter.headers[REASON], letter.headers[QUEUE]) == ("ValueError: unforeseen", TRAIN)
    assert handler.calls == {b"poison": TRIES}
    assert bus.poison.counts == {(TRAIN, "ValueError"): 1}


async def test_a_message_that_a_handler_refuses_is_not_tried_again(bus: Bus) -> None:
    handler = Handler(TreadleError("no such task"))
    await bus.consume(TRAIN, handler, prefetch=1)
    await bus.publish(outgoing(b"poison"))
    (letter,) = await dead(bus, 1)
    assert (letter.headers[REASON], handler.calls[b"poison"]) == ("no such task", 1)


async def test_a_message_waits_as_long_as_a_part_is_unavailable(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handling, "MIN_WAIT", 0.001)
    monkeypatch.setattr(handling, "MAX_WAIT", 0.001)
    handler = Handler()
    away = iter([PartUnavailable("away")] * (3 * TRIES))

    async def handle(message: IncomingMessage) -> None:
        if error := next(away, None):
            raise error
        await handler(message)

    await bus.consume(TRAIN, handle, prefetch=1)
    await bus.publish(outgoing(b"healthy"))
    await handler.healthy.received(1)


@pytest.mark.usefixtures("quick")
async def test_poison_of_a_queue_without_dead_letters_is_only_counted(bus: Bus) -> None:
    handler = Handler()
    await bus.consume(CLAIMS_QUEUE.name, handler, prefetch=1)
    await bus.publish(claim(b"poison"))
    await bus.publish(claim(b"healthy"))
    await handler.healthy.received(1)
    assert bus.poison.counts == {(CLAIMS_QUEUE.name, "ValueError"): 1}
    await bus.close()
    await bus.start()
    assert (await bus.depth(CLAIMS_QUEUE.name), await bus.depth(DEAD_QUEUE.name)) == (0, 0)


@pytest.mark.usefixtures("quick")
async def test_poison_of_a_private_queue_is_only_counted(bus: Bus) -> None:
    handler = Handler()
    await bus.listen(PROGRESS.name, "#", handler)
    for body in (b"poison", b"healthy"):
        await bus.publish(outgoing(body, PROGRESS, "key", mandatory=False))
    await handler.healthy.received(1)
    await until_counted(bus, 1)
    assert bus.poison.counts == {(PROGRESS.name, "ValueError"): 1}


async def until_counted(bus: Bus, count: int) -> None:
    async with asyncio.timeout(TIMEOUT):
        while bus.poison.counts.total() < count:  # noqa: ASYNC110 - nothing announces a count
            await asyncio.sleep(0.01)


async def test_more_poison_than_the_prefetch_delays_no_other_message(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handling, "RETRY_PAUSES", (60.0, 60.0, 60.0))
    handler = Handler()
    await bus.publish_all([outgoing(f"poison {number}".encode()) for number in range(5 * PREFETCH)])
    await bus.publish(outgoing(b"healthy"))
    await bus.consume(TRAIN, handler, prefetch=PREFETCH)
    await handler.healthy.received(1)


async def test_no_two_messages_are_retried_at_the_same_time(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handling, "RETRY_PAUSES", (0.01, 0.01, 0.01))
    seen: set[bytes] = set()
    retrying = most = 0

    @asynccontextmanager
    async def counted() -> AsyncIterator[None]:
        nonlocal retrying, most
        retrying += 1
        most = max(most, retrying)
        await asyncio.sleep(0.01)
        retrying -= 1
        yield

    async def handle(message: IncomingMessage) -> None:
        if message.body in seen:
            async with counted():
                pass
        seen.add(message.body)
        raise ValueError

    await bus.publish_all([outgoing(str(number).encode()) for number in range(PREFETCH)])
    await bus.consume(TRAIN, handle, prefetch=PREFETCH)
    await dead(bus, PREFETCH)
    assert most == 1


async def test_a_retry_that_cannot_begin_in_time_is_left_out(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handling, "RETRY_TIME", 0.01)
    monkeypatch.setattr(handling, "RETRY_PAUSES", (0.05, 0.05, 0.05))
    handler = Handler()
    await bus.consume(TRAIN, handler, prefetch=2)
    await bus.publish(outgoing(b"poison"))
    await dead(bus, 1)
    assert handler.calls[b"poison"] == 1


async def test_a_listener_that_never_returns_does_not_stop_the_next_message(
    bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handling, "LISTENER_TIMEOUT", 0.02)
    monkeypatch.setattr(handling, "RETRY_PAUSES", (0.01, 0.01, 0.01))
    handler = Handler()

    async def handle(message: IncomingMessage) -> None:
        if message.body == b"endless":
            await asyncio.Event().wait()
        await handler(message)

    await bus.listen(PROGRESS.name, "#", handle)
    for body in (b"endless", b"healthy"):
        await bus.publish(outgoing(body, PROGRESS, "key", mandatory=False))
    await handler.healthy.received(1)
    await until_counted(bus, 1)


async def test_a_message_that_its_handler_settled_before_it_raised_is_not_handled_again(bus: Bus) -> None:
    calls = Recorder()

    async def handle(message: IncomingMessage) -> None:
        await message.ack()
        await calls(message)
        raise ValueError("too late")

    await bus.consume(TRAIN, handle, prefetch=1)
    await bus.publish_all([outgoing(b"1"), outgoing(b"2")])
    await calls.received(2)
    await depth_is(bus, TRAIN, 0)
    assert calls.bodies == [b"1", b"2"]


@pytest.mark.usefixtures("quick")
async def test_a_dead_letter_keeps_only_headers_that_fit_into_a_frame(bus: Bus) -> None:
    await bus.consume(TRAIN, Handler(ValueError("long " * 1000)), prefetch=1)
    await bus.publish(outgoing(b"poison", headers={"a": "b", "long": "x" * 129_500}))
    (letter,) = await dead(bus, 1)
    assert (letter.headers["a"], "long" in letter.headers) == ("b", False)
