"""What every bus must do, told once and run on both adapters."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextvars import ContextVar
from datetime import UTC, datetime
from uuid import uuid4

import pytest
import pytest_asyncio

from contracts.topology import (
    CLAIMS,
    CLAIMS_QUEUE,
    COMMANDS,
    CONTROL_QUEUE,
    DEAD_QUEUE,
    DELIVERY_LIMIT,
    EVENTS,
    PHASE_QUEUES,
    PROGRESS,
    SIGNALS,
    Exchange,
)
from infra.bus import handling
from infra.bus.inprocess import InProcessBus
from infra.bus.port import Bus, BusUnavailable, Incoming, Outgoing, PublishFailed, RequestTimedOut, Unroutable
from infra.bus.rabbitmq import RabbitMQBus

TRAIN = PHASE_QUEUES["train"].name  # type: ignore[index]  # a Phase is its string
PATIENCE = 10.0
WHOSE = ContextVar("whose", default="nobody's")


@pytest.fixture(params=["in-process", "rabbitmq"])
def adapter(request: pytest.FixtureRequest) -> Bus:
    if request.param == "in-process":
        return InProcessBus()
    return RabbitMQBus(request.getfixturevalue("bus_url"))


@pytest_asyncio.fixture
async def bus(adapter: Bus) -> AsyncIterator[Bus]:
    await adapter.start()
    yield adapter
    await adapter.close()


class Inbox:
    """A handler that keeps what it gets, and settles nothing by itself."""

    def __init__(self) -> None:
        self.taken: list[Incoming] = []
        self._arrived = asyncio.Condition()

    async def __call__(self, message: Incoming) -> None:
        async with self._arrived:
            self.taken.append(message)
            self._arrived.notify_all()

    async def holds(self, count: int) -> list[Incoming]:
        """Wait until at least `count` have arrived."""
        async with asyncio.timeout(PATIENCE), self._arrived:
            await self._arrived.wait_for(lambda: len(self.taken) >= count)
        return self.taken

    @property
    def bodies(self) -> list[bytes]:
        return [message.body for message in self.taken]


class AckingInbox(Inbox):
    async def __call__(self, message: Incoming) -> None:
        await message.ack()
        await super().__call__(message)


def outgoing(body: bytes = b"{}", exchange: Exchange = COMMANDS, key: str = "train", **more: object) -> Outgoing:
    return Outgoing(exchange.name, key, body, str(uuid4()), **more)  # type: ignore[arg-type]


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not await condition():  # noqa: ASYNC110 - the broker tells nobody when a depth changes
            await asyncio.sleep(0.02)


async def depth_is(bus: Bus, queue: str, expected: int) -> None:
    async def reached() -> bool:
        return await bus.depth(queue) == expected

    await until(reached)


async def test_a_message_arrives_as_it_was_published(bus: Bus) -> None:
    inbox = AckingInbox()
    await bus.consume(TRAIN, inbox, prefetch=1)
    sent = outgoing(b'{"a": 1}', headers={"traceparent": "00-1-2-01"}, correlation_id="c", reply_to="r")
    await bus.publish(sent)
    (got,) = await inbox.holds(1)
    assert (got.body, got.message_id, got.routing_key) == (sent.body, sent.message_id, "train")
    assert (got.correlation_id, got.reply_to, got.redelivered) == ("c", "r", False)
    assert got.headers["traceparent"] == "00-1-2-01"


async def test_messages_that_may_share_arrive_each_as_itself(bus: Bus) -> None:
    inbox = AckingInbox()
    await bus.consume(TRAIN, inbox, prefetch=1)
    sent = [outgoing(f'{{"n": {n}}}'.encode(), headers={"traceparent": f"00-{n}"}, shared=True) for n in range(3)]
    await asyncio.gather(*(bus.publish(message) for message in sent))
    got = await inbox.holds(3)
    assert [(m.body, m.message_id, m.headers["traceparent"], m.routing_key) for m in got] == [
        (m.body, m.message_id, m.headers["traceparent"], "train") for m in sent
    ]


async def test_a_message_that_may_share_is_refused_where_no_queue_takes_it(bus: Bus) -> None:
    answers = await bus.publish_all([outgoing(key="nobody", shared=True), outgoing(key="nobody", shared=True)])
    assert all(isinstance(answer, Unroutable) for answer in answers)


async def test_messages_arrive_in_order(bus: Bus) -> None:
    inbox = AckingInbox()
    await bus.publish_all([outgoing(str(number).encode()) for number in range(20)])
    await bus.consume(TRAIN, inbox, prefetch=1)
    await inbox.holds(20)
    assert inbox.bodies == [str(number).encode() for number in range(20)]


async def test_an_acknowledged_message_is_gone(bus: Bus) -> None:
    inbox = AckingInbox()
    subscription = await bus.consume(TRAIN, inbox, prefetch=1)
    await bus.publish(outgoing())
    await inbox.holds(1)
    await subscription.cancel()
    await bus.close()
    await bus.start()
    assert await bus.depth(TRAIN) == 0


async def test_a_requeued_message_comes_again_marked_redelivered(bus: Bus) -> None:
    inbox = Inbox()
    await bus.consume(TRAIN, inbox, prefetch=1)
    await bus.publish(outgoing())
    (first,) = await inbox.holds(1)
    await first.requeue()
    _, second = await inbox.holds(2)
    assert (second.message_id, second.redelivered) == (first.message_id, True)


async def test_settling_twice_is_harmless(bus: Bus) -> None:
    inbox = Inbox()
    await bus.consume(TRAIN, inbox, prefetch=1)
    await bus.publish_all([outgoing(b"1"), outgoing(b"2")])
    (first,) = await inbox.holds(1)
    await first.ack()
    await first.ack()
    await first.requeue()
    await inbox.holds(2)
    assert inbox.bodies == [b"1", b"2"]


async def test_no_more_than_prefetch_are_unsettled_at_once(bus: Bus) -> None:
    inbox = Inbox()
    await bus.consume(TRAIN, inbox, prefetch=2)
    await bus.publish_all([outgoing() for _ in range(5)])
    await inbox.holds(2)
    await depth_is(bus, TRAIN, 3)
    assert len(inbox.taken) == 2


async def test_an_ack_makes_room_for_the_next(bus: Bus) -> None:
    inbox = Inbox()
    await bus.consume(TRAIN, inbox, prefetch=1)
    await bus.publish_all([outgoing(b"1"), outgoing(b"2")])
    (first,) = await inbox.holds(1)
    await first.ack()
    await inbox.holds(2)
    assert inbox.bodies == [b"1", b"2"]


async def test_two_consumers_share_a_queue(bus: Bus) -> None:
    left, right = Inbox(), Inbox()
    await bus.consume(TRAIN, left, prefetch=1)
    await bus.consume(TRAIN, right, prefetch=1)
    await bus.publish_all([outgoing(b"1"), outgoing(b"2")])
    await left.holds(1)
    await right.holds(1)
    assert sorted(left.bodies + right.bodies) == [b"1", b"2"]


async def test_a_cancelled_consumer_takes_no_more(bus: Bus) -> None:
    inbox = Inbox()
    subscription = await bus.consume(TRAIN, inbox, prefetch=5)
    await subscription.cancel()
    await bus.publish(outgoing())
    await depth_is(bus, TRAIN, 1)
    assert inbox.taken == []


async def test_a_cancelled_consumer_leaves_what_it_did_not_take(bus: Bus) -> None:
    inbox, other = Inbox(), AckingInbox()
    subscription = await bus.consume(TRAIN, inbox, prefetch=1)
    await bus.publish_all([outgoing(b"1"), outgoing(b"2"), outgoing(b"3")])
    await inbox.holds(1)
    await subscription.cancel()
    await bus.consume(TRAIN, other, prefetch=1)
    await other.holds(2)
    assert other.bodies == [b"2", b"3"]


async def test_what_was_taken_before_cancel_can_still_be_acknowledged(bus: Bus) -> None:
    inbox = Inbox()
    subscription = await bus.consume(TRAIN, inbox, prefetch=1)
    await bus.publish(outgoing())
    (held,) = await inbox.holds(1)
    await subscription.cancel()
    await held.ack()
    await bus.close()
    await bus.start()
    assert await bus.depth(TRAIN) == 0


async def test_what_was_taken_before_cancel_can_still_be_given_back(bus: Bus) -> None:
    inbox = Inbox()
    subscription = await bus.consume(TRAIN, inbox, prefetch=1)
    await bus.publish(outgoing())
    (held,) = await inbox.holds(1)
    await subscription.cancel()
    await held.requeue()
    await depth_is(bus, TRAIN, 1)


async def test_a_consumer_knows_whether_it_is_attached(bus: Bus) -> None:
    subscription = await bus.consume(TRAIN, Inbox(), prefetch=1)
    before = subscription.attached
    await subscription.cancel()
    assert (before, subscription.attached) == (True, False)


async def test_a_handler_does_not_run_in_its_publishers_context(bus: Bus) -> None:
    heard: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def handler(message: Incoming) -> None:
        await message.ack()
        heard.set_result(WHOSE.get())

    await bus.consume(TRAIN, handler, prefetch=1)
    token = WHOSE.set("the publisher's")
    await bus.publish(outgoing())
    WHOSE.reset(token)
    async with asyncio.timeout(PATIENCE):
        assert await heard == "nobody's"


async def test_a_handler_goes_on_after_its_consumer_was_cancelled(bus: Bus) -> None:
    go_on, finished = asyncio.Event(), asyncio.Event()

    async def slow(message: Incoming) -> None:
        await message.ack()
        await go_on.wait()
        finished.set()

    subscription = await bus.consume(TRAIN, slow, prefetch=1)
    await bus.publish(outgoing())
    await depth_is(bus, TRAIN, 0)
    await subscription.cancel()
    go_on.set()
    await asyncio.wait_for(finished.wait(), PATIENCE)


async def test_closing_gives_back_what_is_unsettled(bus: Bus) -> None:
    inbox, again = Inbox(), Inbox()
    await bus.consume(TRAIN, inbox, prefetch=1)
    await bus.publish(outgoing())
    await inbox.holds(1)
    await bus.close()
    await bus.start()
    await bus.consume(TRAIN, again, prefetch=1)
    (got,) = await again.holds(1)
    assert got.redelivered


async def test_closing_cancels_running_handlers(bus: Bus) -> None:
    started, cancelled = asyncio.Event(), asyncio.Event()

    async def endless(_: Incoming) -> None:
        started.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    await bus.consume(TRAIN, endless, prefetch=1)
    await bus.publish(outgoing())
    await asyncio.wait_for(started.wait(), PATIENCE)
    await bus.close()
    assert cancelled.is_set()


async def test_a_handler_that_raises_gets_its_message_again(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handling, "FAILED_HANDLER_PAUSE", 0.01)
    seen: list[bool] = []
    done = asyncio.Event()

    async def clumsy(message: Incoming) -> None:
        seen.append(message.redelivered)
        if not message.redelivered:
            raise ValueError("the first time")
        await message.ack()
        done.set()

    await bus.consume(TRAIN, clumsy, prefetch=1)
    await bus.publish(outgoing())
    await asyncio.wait_for(done.wait(), PATIENCE)
    assert seen == [False, True]


async def test_a_poison_message_ends_in_the_dead_letters(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handling, "FAILED_HANDLER_PAUSE", 0.0)
    deliveries: list[Incoming] = []

    async def never(message: Incoming) -> None:
        deliveries.append(message)
        raise ValueError("poison")

    dead = Inbox()
    await bus.consume(DEAD_QUEUE.name, dead, prefetch=1)
    await bus.consume(TRAIN, never, prefetch=1)
    await bus.publish(outgoing(b"poison"))
    (letter,) = await dead.holds(1)
    assert (letter.body, letter.routing_key) == (b"poison", "train")
    assert letter.headers["x-first-death-reason"] == "delivery_limit"
    assert letter.headers["x-first-death-queue"] == TRAIN
    assert len(deliveries) == DELIVERY_LIMIT + 1


async def test_a_message_that_no_queue_takes_is_refused(bus: Bus) -> None:
    with pytest.raises(Unroutable, match="nowhere"):
        await bus.publish(outgoing(key="nowhere"))


async def test_a_message_that_need_not_arrive_may_be_dropped(bus: Bus) -> None:
    await bus.publish(outgoing(key="nowhere", mandatory=False))


async def test_publish_all_answers_for_each_message_in_order(bus: Bus) -> None:
    keys = ["train", "nowhere", "optimize", "nowhere"]
    outcomes = await bus.publish_all([outgoing(key=key) for key in keys])
    assert [type(outcome) for outcome in outcomes] == [type(None), Unroutable, type(None), Unroutable]


async def test_publishing_on_a_closed_bus_fails(bus: Bus) -> None:
    await bus.close()
    (outcome,) = await bus.publish_all([outgoing()])
    assert isinstance(outcome, PublishFailed)


async def test_an_empty_exchange_means_the_queue_itself(bus: Bus) -> None:
    await bus.publish(Outgoing("", TRAIN, b"{}", "id"))
    await depth_is(bus, TRAIN, 1)


async def test_commands_go_to_the_queue_of_their_phase_only(bus: Bus) -> None:
    await bus.publish(outgoing(key="evaluate"))
    await depth_is(bus, PHASE_QUEUES["evaluate"].name, 1)  # type: ignore[index]
    assert await bus.depth(TRAIN) == 0


async def test_events_of_every_key_go_to_control(bus: Bus) -> None:
    await bus.publish_all([outgoing(exchange=EVENTS, key=key) for key in ("model_trained", "a.b.c", "x")])
    await depth_is(bus, CONTROL_QUEUE.name, 3)


@pytest.mark.parametrize(
    ("binding", "expected"),
    [("task.*", [b"task.1"]), ("task.#", [b"task.1", b"task.1.train"]), ("*.1.train", [b"task.1.train"])],
)
async def test_listeners_bind_by_topic(bus: Bus, binding: str, expected: list[bytes]) -> None:
    inbox = Inbox()
    await bus.listen(PROGRESS.name, binding, inbox)
    last = AckingInbox()
    await bus.listen(PROGRESS.name, "#", last)
    for key in ("task.1", "task.1.train", "other"):
        await bus.publish(outgoing(key.encode(), PROGRESS, key, mandatory=False))
    await last.holds(3)
    await inbox.holds(len(expected))
    assert inbox.bodies == expected


async def test_a_signal_reaches_every_listener(bus: Bus) -> None:
    inboxes = [Inbox(), Inbox(), Inbox()]
    for inbox in inboxes:
        await bus.listen(SIGNALS.name, "", inbox)
    await bus.publish(outgoing(b"cancel", SIGNALS, "", mandatory=False, persistent=False))
    for inbox in inboxes:
        await inbox.holds(1)
    assert [inbox.bodies for inbox in inboxes] == [[b"cancel"]] * 3


async def test_a_listener_hears_messages_one_at_a_time_and_in_order(bus: Bus) -> None:
    running, most, heard = 0, 0, Inbox()

    async def listener(message: Incoming) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0)
        running -= 1
        await heard(message)

    await bus.listen(PROGRESS.name, "#", listener)
    for number in range(30):
        await bus.publish(outgoing(str(number).encode(), PROGRESS, "p", mandatory=False))
    await heard.holds(30)
    assert (most, heard.bodies) == (1, [str(number).encode() for number in range(30)])


async def test_a_listener_that_raises_hears_the_next_message_and_not_the_same_again(bus: Bus) -> None:
    heard = Inbox()

    async def clumsy(message: Incoming) -> None:
        await heard(message)
        raise ValueError("every time")

    await bus.listen(PROGRESS.name, "#", clumsy)
    await bus.publish(outgoing(b"1", PROGRESS, "p"))
    await bus.publish(outgoing(b"2", PROGRESS, "p"))
    await heard.holds(2)
    assert heard.bodies == [b"1", b"2"]


async def test_a_cancelled_listener_leaves_no_queue_behind(bus: Bus) -> None:
    subscription = await bus.listen(PROGRESS.name, "#", Inbox())
    await subscription.cancel()
    with pytest.raises(Unroutable):
        await bus.publish(outgoing(exchange=PROGRESS, key="p"))


async def test_a_slow_listener_loses_the_oldest(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("infra.bus.inprocess_broker", "infra.bus.rabbitmq_topology"):
        monkeypatch.setattr(f"{module}.PRIVATE_QUEUE_LENGTH", 5)
    go_on, heard = asyncio.Event(), Inbox()

    async def slow(message: Incoming) -> None:
        await go_on.wait()
        await heard(message)

    await bus.listen(PROGRESS.name, "#", slow)
    for number in range(300):
        await bus.publish(outgoing(str(number).encode(), PROGRESS, "p"))
    go_on.set()

    async def heard_the_last() -> bool:
        return b"299" in heard.bodies

    await until(heard_the_last)
    assert len(heard.bodies) < 300


async def test_a_request_gets_its_reply(bus: Bus) -> None:
    async def answer(message: Incoming) -> None:
        assert message.reply_to is not None
        body = b"re: " + message.body
        await bus.publish(Outgoing("", message.reply_to, body, "r", correlation_id=message.correlation_id))
        await message.ack()

    await bus.consume(CLAIMS_QUEUE.name, answer, prefetch=10)
    requests = [bus.request(claim(str(number).encode()), timeout=PATIENCE) for number in range(10)]
    assert await asyncio.gather(*requests) == [f"re: {number}".encode() for number in range(10)]


async def test_a_request_without_a_reply_times_out(bus: Bus) -> None:
    with pytest.raises(RequestTimedOut):
        await bus.request(claim(), timeout=0.2)


async def test_a_request_expires_when_its_asker_gives_up(bus: Bus) -> None:
    with pytest.raises(RequestTimedOut):
        await bus.request(claim(), timeout=0.2)
    await depth_is(bus, CLAIMS_QUEUE.name, 0)


async def test_an_expired_message_is_not_delivered(bus: Bus) -> None:
    await bus.publish(claim(b"old", expires=0.05))
    await depth_is(bus, CLAIMS_QUEUE.name, 0)
    await bus.publish(claim(b"new"))
    inbox = AckingInbox()
    await bus.consume(CLAIMS_QUEUE.name, inbox, prefetch=1)
    await inbox.holds(1)
    assert inbox.bodies == [b"new"]


async def test_the_depth_of_an_unknown_queue_is_an_error(bus: Bus) -> None:
    with pytest.raises(BusUnavailable, match=r"treadle\.unknown"):
        await bus.depth("treadle.unknown")


async def test_browsing_leaves_messages_and_their_order(bus: Bus) -> None:
    for body in (b"1", b"2", b"3", b"4"):
        await bus.publish(outgoing(body))
    for _ in range(2):
        async with bus.browse(TRAIN, 3) as messages:
            assert [message.body for message in messages] == [b"1", b"2", b"3"]
    inbox = AckingInbox()
    await bus.consume(TRAIN, inbox, prefetch=10)
    await inbox.holds(4)
    assert inbox.bodies == [b"1", b"2", b"3", b"4"]


async def test_what_is_acked_while_browsing_is_gone(bus: Bus) -> None:
    for body in (b"1", b"2", b"3"):
        await bus.publish(outgoing(body))
    async with bus.browse(TRAIN, 10) as messages:
        await messages[1].ack()
    async with bus.browse(TRAIN, 10) as messages:
        assert [message.body for message in messages] == [b"1", b"3"]


async def test_what_is_browsed_is_nobody_elses(bus: Bus) -> None:
    await bus.publish(outgoing(b"mine"))
    inbox = AckingInbox()
    async with bus.browse(TRAIN, 1):
        await bus.consume(TRAIN, inbox, prefetch=10)
        await bus.publish(outgoing(b"anybody's"))
        await inbox.holds(1)
        assert inbox.bodies == [b"anybody's"]
    await inbox.holds(2)


async def test_a_browser_that_fails_gives_everything_back(bus: Bus) -> None:
    await bus.publish(outgoing())
    with pytest.raises(ZeroDivisionError):
        async with bus.browse(TRAIN, 10):
            raise ZeroDivisionError
    await depth_is(bus, TRAIN, 1)


async def test_a_browsed_message_says_when_it_was_published(bus: Bus) -> None:
    before = datetime.now(UTC).replace(microsecond=0)
    await bus.publish(outgoing())
    async with bus.browse(TRAIN, 1) as (message,):
        assert message.published_at is not None
        assert before <= message.published_at <= datetime.now(UTC)


async def test_an_unknown_queue_cannot_be_browsed(bus: Bus) -> None:
    with pytest.raises(BusUnavailable, match=r"treadle\.unknown"):
        async with bus.browse("treadle.unknown", 1):
            pass


async def test_starting_again_keeps_what_is_queued(bus: Bus) -> None:
    await bus.publish(outgoing())
    await bus.close()
    await bus.start()
    await depth_is(bus, TRAIN, 1)


def claim(body: bytes = b"{}", **more: object) -> Outgoing:
    return outgoing(body, CLAIMS, "claim", persistent=False, **more)
