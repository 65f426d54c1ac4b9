"""What every bus does with messages and their consumers; each test runs on both adapters."""

from __future__ import annotations

import asyncio

import pytest

from contracts.topology import (
    CONTROL_QUEUE,
    EVENTS,
    PHASE_QUEUES,
)
from infra.bus.port import Bus, IncomingMessage, OutgoingMessage, PublishFailed, Unroutable
from tests.conformance.buses import CALLER, TIMEOUT, TRAIN, AckingRecorder, Recorder, depth_is, outgoing


async def test_a_message_arrives_as_it_was_published(bus: Bus) -> None:
    recorder = AckingRecorder()
    await bus.consume(TRAIN, recorder, prefetch=1)
    sent = outgoing(b'{"a": 1}', headers={"traceparent": "00-1-2-01"}, correlation_id="c", reply_to="r")
    await bus.publish(sent)
    (message,) = await recorder.received(1)
    assert (message.body, message.message_id, message.routing_key) == (sent.body, sent.message_id, "train")
    assert (message.correlation_id, message.reply_to, message.redelivered) == ("c", "r", False)
    assert message.headers["traceparent"] == "00-1-2-01"


async def test_messages_arrive_in_order(bus: Bus) -> None:
    recorder = AckingRecorder()
    await bus.publish_all([outgoing(str(number).encode()) for number in range(20)])
    await bus.consume(TRAIN, recorder, prefetch=1)
    await recorder.received(20)
    assert recorder.bodies == [str(number).encode() for number in range(20)]


async def test_an_acknowledged_message_is_removed(bus: Bus) -> None:
    recorder = AckingRecorder()
    subscription = await bus.consume(TRAIN, recorder, prefetch=1)
    await bus.publish(outgoing())
    await recorder.received(1)
    await subscription.cancel()
    await bus.close()
    await bus.start()
    assert await bus.depth(TRAIN) == 0


async def test_a_requeued_message_is_redelivered_and_marked(bus: Bus) -> None:
    recorder = Recorder()
    await bus.consume(TRAIN, recorder, prefetch=1)
    await bus.publish(outgoing())
    (first,) = await recorder.received(1)
    await first.requeue()
    _, second = await recorder.received(2)
    assert (second.message_id, second.redelivered) == (first.message_id, True)


async def test_settling_twice_is_harmless(bus: Bus) -> None:
    recorder = Recorder()
    await bus.consume(TRAIN, recorder, prefetch=1)
    await bus.publish_all([outgoing(b"1"), outgoing(b"2")])
    (first,) = await recorder.received(1)
    await first.ack()
    await first.ack()
    await first.requeue()
    await recorder.received(2)
    assert recorder.bodies == [b"1", b"2"]


async def test_no_more_than_prefetch_are_unsettled_at_once(bus: Bus) -> None:
    recorder = Recorder()
    await bus.consume(TRAIN, recorder, prefetch=2)
    await bus.publish_all([outgoing() for _ in range(5)])
    await recorder.received(2)
    await depth_is(bus, TRAIN, 3)
    assert len(recorder.messages) == 2


async def test_an_ack_makes_room_for_the_next(bus: Bus) -> None:
    recorder = Recorder()
    await bus.consume(TRAIN, recorder, prefetch=1)
    await bus.publish_all([outgoing(b"1"), outgoing(b"2")])
    (first,) = await recorder.received(1)
    await first.ack()
    await recorder.received(2)
    assert recorder.bodies == [b"1", b"2"]


async def test_two_consumers_share_a_queue(bus: Bus) -> None:
    left, right = Recorder(), Recorder()
    await bus.consume(TRAIN, left, prefetch=1)
    await bus.consume(TRAIN, right, prefetch=1)
    await bus.publish_all([outgoing(b"1"), outgoing(b"2")])
    await left.received(1)
    await right.received(1)
    assert sorted(left.bodies + right.bodies) == [b"1", b"2"]


async def test_a_cancelled_consumer_receives_no_more_messages(bus: Bus) -> None:
    recorder = Recorder()
    subscription = await bus.consume(TRAIN, recorder, prefetch=5)
    await subscription.cancel()
    await bus.publish(outgoing())
    await depth_is(bus, TRAIN, 1)
    assert recorder.messages == []


async def test_a_cancelled_consumer_leaves_the_messages_that_it_did_not_receive(bus: Bus) -> None:
    recorder, other = Recorder(), AckingRecorder()
    subscription = await bus.consume(TRAIN, recorder, prefetch=1)
    await bus.publish_all([outgoing(b"1"), outgoing(b"2"), outgoing(b"3")])
    await recorder.received(1)
    await subscription.cancel()
    await bus.consume(TRAIN, other, prefetch=1)
    await other.received(2)
    assert other.bodies == [b"2", b"3"]


async def test_a_message_received_before_cancel_can_still_be_acknowledged(bus: Bus) -> None:
    recorder = Recorder()
    subscription = await bus.consume(TRAIN, recorder, prefetch=1)
    await bus.publish(outgoing())
    (message,) = await recorder.received(1)
    await subscription.cancel()
    await message.ack()
    await bus.close()
    await bus.start()
    assert await bus.depth(TRAIN) == 0


async def test_a_message_received_before_cancel_can_still_be_requeued(bus: Bus) -> None:
    recorder = Recorder()
    subscription = await bus.consume(TRAIN, recorder, prefetch=1)
    await bus.publish(outgoing())
    (message,) = await recorder.received(1)
    await subscription.cancel()
    await message.requeue()
    await depth_is(bus, TRAIN, 1)


async def test_a_subscription_reports_whether_it_is_attached(bus: Bus) -> None:
    subscription = await bus.consume(TRAIN, Recorder(), prefetch=1)
    before = subscription.attached
    await subscription.cancel()
    assert (before, subscription.attached) == (True, False)


async def test_a_handler_does_not_run_in_its_publishers_context(bus: Bus) -> None:
    seen: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def handler(message: IncomingMessage) -> None:
        await message.ack()
        seen.set_result(CALLER.get())

    await bus.consume(TRAIN, handler, prefetch=1)
    token = CALLER.set("publisher")
    await bus.publish(outgoing())
    CALLER.reset(token)
    async with asyncio.timeout(TIMEOUT):
        assert await seen == "unset"


async def test_a_handler_goes_on_after_its_consumer_was_cancelled(bus: Bus) -> None:
    go_on, finished = asyncio.Event(), asyncio.Event()

    async def slow(message: IncomingMessage) -> None:
        await message.ack()
        await go_on.wait()
        finished.set()

    subscription = await bus.consume(TRAIN, slow, prefetch=1)
    await bus.publish(outgoing())
    await depth_is(bus, TRAIN, 0)
    await subscription.cancel()
    go_on.set()
    await asyncio.wait_for(finished.wait(), TIMEOUT)


async def test_closing_requeues_unsettled_messages(bus: Bus) -> None:
    recorder, again = Recorder(), Recorder()
    await bus.consume(TRAIN, recorder, prefetch=1)
    await bus.publish(outgoing())
    await recorder.received(1)
    await bus.close()
    await bus.start()
    await bus.consume(TRAIN, again, prefetch=1)
    (message,) = await again.received(1)
    assert message.redelivered


async def test_closing_cancels_running_handlers(bus: Bus) -> None:
    started, cancelled = asyncio.Event(), asyncio.Event()

    async def endless(_: IncomingMessage) -> None:
        started.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    await bus.consume(TRAIN, endless, prefetch=1)
    await bus.publish(outgoing())
    await asyncio.wait_for(started.wait(), TIMEOUT)
    await bus.close()
    assert cancelled.is_set()


async def test_a_message_that_no_queue_takes_is_refused(bus: Bus) -> None:
    with pytest.raises(Unroutable, match="nowhere"):
        await bus.publish(outgoing(key="nowhere"))


async def test_a_message_that_need_not_arrive_may_be_dropped(bus: Bus) -> None:
    await bus.publish(outgoing(key="nowhere", mandatory=False))


async def test_publish_all_returns_an_outcome_for_each_message_in_order(bus: Bus) -> None:
    keys = ["train", "nowhere", "optimize", "nowhere"]
    outcomes = await bus.publish_all([outgoing(key=key) for key in keys])
    assert [type(outcome) for outcome in outcomes] == [type(None), Unroutable, type(None), Unroutable]


async def test_publishing_on_a_closed_bus_fails(bus: Bus) -> None:
    await bus.close()
    (outcome,) = await bus.publish_all([outgoing()])
    assert isinstance(outcome, PublishFailed)


async def test_an_empty_exchange_means_the_queue_itself(bus: Bus) -> None:
    await bus.publish(OutgoingMessage("", TRAIN, b"{}", "id"))
    await depth_is(bus, TRAIN, 1)


async def test_a_command_goes_only_to_the_queue_of_its_phase(bus: Bus) -> None:
    await bus.publish(outgoing(key="evaluate"))
    await depth_is(bus, PHASE_QUEUES["evaluate"].name, 1)  # type: ignore[index]
    assert await bus.depth(TRAIN) == 0


async def test_events_of_every_key_go_to_control(bus: Bus) -> None:
    await bus.publish_all([outgoing(exchange=EVENTS, key=key) for key in ("model_trained", "a.b.c", "x")])
    await depth_is(bus, CONTROL_QUEUE.name, 3)


async def test_starting_again_keeps_queued_messages(bus: Bus) -> None:
    await bus.publish(outgoing())
    await bus.close()
    await bus.start()
    await depth_is(bus, TRAIN, 1)
