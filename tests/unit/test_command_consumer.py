"""The slots limit how many attempts run, however many commands are delivered and however long claims take."""

import asyncio
import random
from collections.abc import AsyncIterator
from typing import cast

import pytest

from contracts.tasks import Phase
from contracts.topology import COMMANDS, PHASE_QUEUES
from infra.bus.inprocess import InProcessBus
from infra.bus.port import Handler, IncomingMessage, OutgoingMessage
from infra.worker.attempt import Attempt
from infra.worker.command_consumer import CommandConsumer

QUEUE = PHASE_QUEUES[Phase.TRAIN].name
MESSAGES = 60


@pytest.fixture
async def bus() -> AsyncIterator[InProcessBus]:
    bus = InProcessBus()
    await bus.start()
    for number in range(MESSAGES):
        await bus.publish(OutgoingMessage(COMMANDS.name, "train", b"{}", str(number)))
    yield bus
    await bus.close()


class Worker:
    """A worker whose claims and jobs take random numbers of event-loop steps; it counts the running jobs."""

    def __init__(self, bus: InProcessBus, size: int, grants: float) -> None:
        self.slots = CommandConsumer(bus, QUEUE, self._admit, self._start, size)
        self.running = self.max_running = self.done = 0
        self.redelivered = False
        self.all_done = asyncio.Event()
        self._random = random.Random(1)
        self._grants = grants
        self._tasks: list[asyncio.Task[None]] = []

    async def _admit(self, message: IncomingMessage) -> Attempt | None:
        self.redelivered |= message.redelivered
        await self._yield_randomly()
        if self._random.random() < self._grants:
            return attempt()
        await message.ack()
        self._count()
        return None

    def _start(self, _: Attempt) -> None:
        self.running += 1
        self.max_running = max(self.max_running, self.running)
        self._tasks.append(asyncio.create_task(self._work()))

    async def _work(self) -> None:
        await self._yield_randomly()
        self.running -= 1
        self.slots.free()
        self._count()

    def _count(self) -> None:
        self.done += 1
        if self.done == MESSAGES:
            self.all_done.set()

    async def _yield_randomly(self) -> None:
        for _ in range(self._random.randrange(8)):
            await asyncio.sleep(0)


def attempt() -> Attempt:
    """A placeholder for an attempt, which the consumer only counts."""
    return cast("Attempt", object())


@pytest.mark.parametrize("size", [1, 2, 3, 8])
@pytest.mark.parametrize("grants", [0.0, 0.5, 1.0])
async def test_every_message_is_taken_and_never_too_many_at_once(bus: InProcessBus, size: int, grants: float) -> None:
    worker = Worker(bus, size, grants)
    worker.slots.open()
    async with asyncio.timeout(10):
        await worker.all_done.wait()
    assert worker.max_running <= size
    assert not worker.redelivered
    await worker.slots.close()


async def test_a_closed_worker_takes_nothing_more(bus: InProcessBus) -> None:
    worker = Worker(bus, 1, 1.0)
    await worker.slots.close()
    assert await bus.depth(QUEUE) == MESSAGES
    assert not worker.slots.attached


class FakeSubscription:
    """A subscription that counts how often it was cancelled."""

    attached = True

    def __init__(self) -> None:
        self.cancelled = 0
        self.cancelling = asyncio.Event()
        self.may_end = asyncio.Event()
        self.may_end.set()

    async def cancel(self) -> None:
        self.cancelled += 1
        self.cancelling.set()
        await self.may_end.wait()


class ManualBus(InProcessBus):
    """A bus on which the test itself makes the deliveries, and can lose them."""

    def __init__(self) -> None:
        super().__init__()
        self.consumers: asyncio.Queue[tuple[Handler, FakeSubscription]] = asyncio.Queue()

    async def consume(self, queue: str, handler: Handler, *, prefetch: int) -> FakeSubscription:
        subscription = FakeSubscription()
        await self.consumers.put((handler, subscription))
        return subscription


class Message:
    """A delivery that records how it was settled."""

    def __init__(self) -> None:
        self.settled: list[str] = []
        self.acked = asyncio.Event()
        self.incoming = IncomingMessage(b"{}", "m", "train", {}, None, None, False, self._ack, self._requeue)

    async def _ack(self) -> None:
        self.settled.append("ack")
        self.acked.set()

    async def _requeue(self) -> None:
        self.settled.append("requeue")


class PendingClaim:
    """A consumer with one slot and one delivery, whose claim is not answered yet."""

    def __init__(self) -> None:
        self.bus = ManualBus()
        self.started: list[Attempt] = []
        self.message = Message()
        self._claimed: asyncio.Event = asyncio.Event()
        self._granted: asyncio.Future[Attempt | None] = asyncio.get_running_loop().create_future()
        self.slots = CommandConsumer(self.bus, QUEUE, self._admit, self.started.append, 1)

    async def begin(self) -> None:
        self.slots.open()
        self.handler, self.subscription = await self.bus.consumers.get()
        self._handling = asyncio.ensure_future(self.handler(self.message.incoming))
        await self._claimed.wait()

    async def lose(self) -> None:
        """Lose the delivery, as a bus does."""
        self._handling.cancel()
        await asyncio.wait([self._handling])

    def grant(self) -> None:
        """Answer the claim."""
        self._granted.set_result(attempt())

    async def acknowledged(self) -> None:
        """Wait until the delivery is acknowledged."""
        await asyncio.wait_for(self.message.acked.wait(), 5)

    async def end(self) -> None:
        """End the job, and wait for the new consumer of the free slot."""
        self.slots.free()
        await asyncio.wait_for(self.bus.consumers.get(), 5)
        await self.slots.close()

    async def _admit(self, _: IncomingMessage) -> Attempt | None:
        self._claimed.set()
        return await asyncio.shield(self._granted)


async def test_a_lost_delivery_keeps_its_slot_until_its_claim_is_answered() -> None:
    pending, second = PendingClaim(), Message()
    await pending.begin()
    await pending.lose()
    await pending.handler(second.incoming)  # the consumer was restored before it was cancelled
    pending.grant()
    await pending.acknowledged()
    assert (pending.slots.busy, len(pending.started)) == (1, 1)
    assert (second.settled, pending.subscription.cancelled) == (["requeue"], 1)
    await pending.end()


async def test_a_consumer_that_is_lost_while_it_is_being_cancelled_is_counted_once() -> None:
    pending = PendingClaim()
    await pending.begin()
    pending.subscription.may_end.clear()
    pending.grant()
    await pending.subscription.cancelling.wait()
    await pending.lose()
    pending.subscription.may_end.set()
    await pending.acknowledged()
    assert pending.slots.busy == 1
    await pending.end()


async def test_a_worker_that_ends_while_control_does_not_answer_requeues_its_delivery() -> None:
    pending = PendingClaim()
    await pending.begin()
    await pending.slots.close(0.01)
    assert (pending.message.settled, pending.started) == (["requeue"], [])


async def test_a_worker_that_ends_accepts_an_answer_that_is_on_its_way() -> None:
    pending = PendingClaim()
    await pending.begin()
    closing = asyncio.create_task(pending.slots.close(5))
    await asyncio.sleep(0)
    pending.grant()
    await closing
    assert (pending.message.settled, len(pending.started)) == (["ack"], 1)


class Refusing:
    """A consumer whose worker may not claim; it records in which order things happen."""

    def __init__(self) -> None:
        self.bus = ManualBus()
        self.fit = False
        self.claims = 0
        self.order: list[str] = []
        self.slots = CommandConsumer(self.bus, QUEUE, self._claim, lambda _: None, 1, lambda: self.fit)

    async def _claim(self, message: IncomingMessage) -> Attempt | None:
        self.claims += 1
        await message.ack()
        return None

    async def deliver(self) -> Message:
        """Deliver one command to the present consumer, and wait until it is settled."""
        handler, subscription = await asyncio.wait_for(self.bus.consumers.get(), 5)
        message, requeue, cancel = Message(), Message._requeue, subscription.cancel

        async def record_requeue() -> None:
            self.order.append("requeue")
            await requeue(message)

        async def record_cancel() -> None:
            self.order.append("detach")
            await cancel()

        message.incoming = IncomingMessage(b"{}", "m", "train", {}, None, None, False, message._ack, record_requeue)
        subscription.cancel = record_cancel  # type: ignore[method-assign]
        await handler(message.incoming)
        return message


async def test_a_worker_that_may_not_claim_detaches_before_it_requeues_the_command() -> None:
    worker = Refusing()
    worker.slots.open()
    message = await worker.deliver()
    assert (message.settled, worker.order, worker.claims) == (["requeue"], ["detach", "requeue"], 0)
    assert not worker.slots.attached
    await worker.slots.close()


async def test_a_worker_that_may_not_claim_consumes_again_when_it_is_resumed() -> None:
    worker = Refusing()
    worker.slots.open()
    await worker.deliver()
    assert worker.bus.consumers.empty()
    worker.fit = True
    worker.slots.resume()
    assert (await worker.deliver()).settled == ["ack"]
    await worker.slots.close()


async def test_a_worker_that_is_resumed_while_it_detaches_consumes_again() -> None:
    worker = Refusing()
    worker.slots.open()
    _, subscription = await asyncio.wait_for(worker.bus.consumers.get(), 5)
    subscription.may_end.clear()
    suspending = asyncio.create_task(worker.slots.suspend())
    await subscription.cancelling.wait()
    worker.slots.resume()
    subscription.may_end.set()
    await suspending
    await asyncio.wait_for(worker.bus.consumers.get(), 5)
    await worker.slots.close()


async def test_a_suspended_worker_does_not_consume_when_a_slot_becomes_free() -> None:
    pending = PendingClaim()
    await pending.begin()
    pending.grant()
    await pending.acknowledged()
    await pending.slots.suspend()
    pending.slots.free()
    await asyncio.sleep(0.01)
    assert pending.bus.consumers.empty()
    await pending.slots.close()
