"""Slots bound what runs, whatever the bus delivers and however long claims take."""

import asyncio
import random
from collections.abc import AsyncIterator

import pytest

from contracts.tasks import Phase
from contracts.topology import COMMANDS, PHASE_QUEUES
from infra.bus.inprocess import InProcessBus
from infra.bus.port import Handler, Incoming, Outgoing
from infra.worker.slots import Hold, Slots

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
        self.slots = Slots(bus, QUEUE, self.take, size)
        self.running = self.most = self.done = 0
        self.redelivered = False
        self.all_done = asyncio.Event()
        self._random = random.Random(1)
        self._grants = grants
        self._tasks: list[asyncio.Task[None]] = []

    async def take(self, message: Incoming, hold: Hold) -> None:
        self.redelivered |= message.redelivered
        await self._turns()
        if self._random.random() < self._grants:
            await hold.run(message)
            self._tasks.append(asyncio.create_task(self._work()))
        else:
            await message.ack()
            hold.drop()
            self._count()

    async def _work(self) -> None:
        self.running += 1
        self.most = max(self.most, self.running)
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


def delivery(requeued: list[str], name: str) -> Incoming:
    async def ack() -> None: ...

    async def requeue() -> None:
        requeued.append(name)

    return Incoming(b"{}", name, "train", {}, None, None, False, ack, requeue)


class HeldOne:
    """One slot, and one delivery in it whose claim is out."""

    def __init__(self) -> None:
        self.bus = LossyBus()
        self.requeued: list[str] = []
        self._held: asyncio.Queue[tuple[Incoming, Hold]] = asyncio.Queue()
        self.slots = Slots(self.bus, QUEUE, self._take, 1)

    async def begin(self) -> None:
        self.slots.open()
        self.handler, self.subscription = await self.bus.consumers.get()
        self._handling = asyncio.ensure_future(self.handler(delivery(self.requeued, "first")))
        self.message, self.hold = await self._held.get()

    async def lose(self) -> None:
        """The bus loses the delivery."""
        self._handling.cancel()
        await asyncio.wait([self._handling])

    async def end(self) -> None:
        """The job ends: there is room again, and another consumer for it."""
        self.slots.free()
        await asyncio.wait_for(self.bus.consumers.get(), 5)
        await self.slots.close()

    async def _take(self, message: Incoming, hold: Hold) -> None:
        await self._held.put((message, hold))
        await asyncio.Event().wait()


async def test_what_the_bus_lost_keeps_its_slot_for_as_long_as_its_claim_is_out() -> None:
    one = HeldOne()
    await one.begin()
    await one.lose()
    await one.handler(delivery(one.requeued, "second"))  # the consumer came back before it was cancelled
    await one.hold.run(one.message)
    assert (one.slots.busy, one.requeued, one.subscription.cancelled) == (1, ["second"], 1)
    await one.end()


async def test_a_consumer_that_is_lost_while_it_is_being_cancelled_is_counted_once() -> None:
    one = HeldOne()
    await one.begin()
    one.subscription.may_end.clear()
    running = asyncio.create_task(one.hold.run(one.message))
    await one.subscription.begun.wait()
    await one.lose()
    one.subscription.may_end.set()
    await running
    assert one.slots.busy == 1
    await one.end()
