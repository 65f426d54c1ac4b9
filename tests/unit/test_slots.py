"""Slots bound what runs, whatever the bus delivers and however long claims take."""

import asyncio
import random
from collections.abc import AsyncIterator
from typing import cast

import pytest

from contracts.tasks import Phase
from contracts.topology import COMMANDS, PHASE_QUEUES
from infra.bus.inprocess import InProcessBus
from infra.bus.port import Handler, Incoming, Outgoing
from infra.worker.attempt import Attempt
from infra.worker.slots import Slots

QUEUE = PHASE_QUEUES[Phase.TRAIN].name
MESSAGES = 60


@pytest.fixture
async def bus() -> AsyncIterator[InProcessBus]:
    bus = InProcessBus()
    await bus.start()
    for number in range(MESSAGES):
        await bus.publish(Outgoing(COMMANDS.name, "train", b"{}", str(number)))
    yield bus
    await bus.close()


class Worker:
    """Claims and works for a random number of turns of the loop, and counts."""

    def __init__(self, bus: InProcessBus, size: int, grants: float) -> None:
        self.slots = Slots(bus, QUEUE, self._admit, self._start, size)
        self.running = self.most = self.done = 0
        self.redelivered = False
        self.all_done = asyncio.Event()
        self._random = random.Random(1)
        self._grants = grants
        self._tasks: list[asyncio.Task[None]] = []

    async def _admit(self, message: Incoming) -> Attempt | None:
        self.redelivered |= message.redelivered
        await self._turns()
        if self._random.random() < self._grants:
            return attempt()
        await message.ack()
        self._count()
        return None

    def _start(self, _: Attempt) -> None:
        self.running += 1
        self.most = max(self.most, self.running)
        self._tasks.append(asyncio.create_task(self._work()))

    async def _work(self) -> None:
        await self._turns()
        self.running -= 1
        self.slots.free()
        self._count()

    def _count(self) -> None:
        self.done += 1
        if self.done == MESSAGES:
            self.all_done.set()

    async def _turns(self) -> None:
        for _ in range(self._random.randrange(8)):
            await asyncio.sleep(0)


def attempt() -> Attempt:
    """An attempt that is never run: slots only count it."""
    return cast("Attempt", object())


@pytest.mark.parametrize("size", [1, 2, 3, 8])
@pytest.mark.parametrize("grants", [0.0, 0.5, 1.0])
async def test_every_message_is_taken_and_never_too_many_at_once(bus: InProcessBus, size: int, grants: float) -> None:
    worker = Worker(bus, size, grants)
    worker.slots.open()
    async with asyncio.timeout(10):
        await worker.all_done.wait()
    assert worker.most <= size
    assert not worker.redelivered
    await worker.slots.close()


async def test_a_closed_worker_takes_nothing_more(bus: InProcessBus) -> None:
    worker = Worker(bus, 1, 1.0)
    await worker.slots.close()
    assert await bus.depth(QUEUE) == MESSAGES
    assert not worker.slots.attached


class Detached:
    """A subscription that counts how often it was cancelled."""

    attached = True

    def __init__(self) -> None:
        self.cancelled = 0
        self.begun = asyncio.Event()
        self.may_end = asyncio.Event()
        self.may_end.set()

    async def cancel(self) -> None:
        self.cancelled += 1
        self.begun.set()
        await self.may_end.wait()


class LossyBus(InProcessBus):
    """A bus that delivers by the test's own hand, and may lose what it has delivered."""

    def __init__(self) -> None:
        super().__init__()
        self.consumers: asyncio.Queue[tuple[Handler, Detached]] = asyncio.Queue()

    async def consume(self, queue: str, handler: Handler, *, prefetch: int) -> Detached:
        subscription = Detached()
        await self.consumers.put((handler, subscription))
        return subscription


class Message:
    """A delivery that remembers how it was settled."""

    def __init__(self) -> None:
        self.settled: list[str] = []
        self.acked = asyncio.Event()
        self.incoming = Incoming(b"{}", "m", "train", {}, None, None, False, self._ack, self._requeue)

    async def _ack(self) -> None:
        self.settled.append("ack")
        self.acked.set()

    async def _requeue(self) -> None:
        self.settled.append("requeue")


class OneClaim:
    """One slot, and one delivery in it whose claim is out."""

    def __init__(self) -> None:
        self.bus = LossyBus()
        self.started: list[Attempt] = []
        self.message = Message()
        self._claimed: asyncio.Event = asyncio.Event()
        self._granted: asyncio.Future[Attempt | None] = asyncio.get_running_loop().create_future()
        self.slots = Slots(self.bus, QUEUE, self._admit, self.started.append, 1)

    async def begin(self) -> None:
        self.slots.open()
        self.handler, self.subscription = await self.bus.consumers.get()
        self._handling = asyncio.ensure_future(self.handler(self.message.incoming))
        await self._claimed.wait()

    async def lose(self) -> None:
        """The bus loses the delivery."""
        self._handling.cancel()
        await asyncio.wait([self._handling])

    def grant(self) -> None:
        """Control answers."""
        self._granted.set_result(attempt())

    async def acknowledged(self) -> None:
        """Wait until the delivery is."""
        await asyncio.wait_for(self.message.acked.wait(), 5)

    async def end(self) -> None:
        """The job ends: there is room again, and another consumer for it."""
        self.slots.free()
        await asyncio.wait_for(self.bus.consumers.get(), 5)
        await self.slots.close()

    async def _admit(self, _: Incoming) -> Attempt | None:
        self._claimed.set()
        return await asyncio.shield(self._granted)


async def test_what_the_bus_lost_keeps_its_slot_for_as_long_as_its_claim_is_out() -> None:
    one, second = OneClaim(), Message()
    await one.begin()
    await one.lose()
    await one.handler(second.incoming)  # the consumer came back before it was cancelled
    one.grant()
    await one.acknowledged()
    assert (one.slots.busy, len(one.started), second.settled, one.subscription.cancelled) == (1, 1, ["requeue"], 1)
    await one.end()


async def test_a_consumer_that_is_lost_while_it_is_being_cancelled_is_counted_once() -> None:
    one = OneClaim()
    await one.begin()
    one.subscription.may_end.clear()
    one.grant()
    await one.subscription.begun.wait()
    await one.lose()
    one.subscription.may_end.set()
    await one.acknowledged()
    assert one.slots.busy == 1
    await one.end()


async def test_a_worker_that_ends_while_control_does_not_answer_gives_its_delivery_back() -> None:
    one = OneClaim()
    await one.begin()
    await one.slots.close(0.01)
    assert (one.message.settled, one.started) == (["requeue"], [])


async def test_a_worker_that_ends_takes_an_answer_that_is_on_its_way() -> None:
    one = OneClaim()
    await one.begin()
    closing = asyncio.create_task(one.slots.close(5))
    await asyncio.sleep(0)
    one.grant()
    await closing
    assert (one.message.settled, len(one.started)) == (["ack"], 1)
