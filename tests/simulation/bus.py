"""One process's connection to the broker, on a network that loses, delays, reorders and repeats."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from contracts.topology import COMMANDS, CONTROL_QUEUE, EVENTS, PHASE_QUEUES, SUBMISSIONS_QUEUE
from infra.bus.inprocess import InProcessBus
from infra.bus.inprocess_queue import MemoryConsumer, MemoryQueue
from infra.bus.port import BusUnavailable, Handler, Incoming, Outgoing, PublishFailed, Subscription, Unroutable
from tests.simulation.process import Process
from tests.simulation.world import World

LOST, UNCONFIRMED, REPEATED, SLOW = 0.01, 0.01, 0.01, 0.05
"""Shares of messages that the broker never gets, whose confirm is lost, that come twice, and that come late."""
LATENCY, DELAY, SLOW_CONFIRM = 0.002, 15.0, 0.1
"""Seconds: the most that a message usually takes, a late one, and an event's late confirm."""
ACK_POINTS = {
    CONTROL_QUEUE.name: "after-apply-before-ack",
    SUBMISSIONS_QUEUE.name: "after-answer-before-ack",
    **{queue.name: "after-claim-before-ack" for queue in PHASE_QUEUES.values()},
}


class SimulatedBus(InProcessBus):
    """A connection that comes back by itself, as RabbitMQ's does."""

    name = "simulated"

    def __init__(self, world: World, process: Process) -> None:
        super().__init__(world.broker)
        self._world = world
        self._process = process
        self._away = False
        self._subscriptions: list[Restored] = []
        process.at_death.append(self._die)

    async def publish(self, message: Outgoing) -> None:
        """Await the confirm, unless the message or the confirm is lost. Delivery is a matter of its own."""
        await asyncio.sleep(self._world.chance.uniform(0, LATENCY))
        if message.exchange == EVENTS.name:
            await self._world.point("after-work-before-publish", self._process)
        if self._away:
            raise PublishFailed("the connection is lost")
        if self._world.happens(LOST):
            self._world.fault(f"lost {message.exchange} {message.routing_key}")
            raise PublishFailed("lost before the broker had it")
        self._accept(message)
        if message.exchange == EVENTS.name and self._world.happens(SLOW):
            await asyncio.sleep(self._world.chance.uniform(0, SLOW_CONFIRM))
        if message.exchange in {COMMANDS.name, EVENTS.name}:
            await self._world.point("after-publish-before-confirm", self._process)
        if self._away or self._world.happens(UNCONFIRMED):
            self._world.fault(f"unconfirmed {message.exchange} {message.routing_key}")
            raise PublishFailed("the confirm was lost")

    async def consume(self, queue: str, handler: Handler, *, prefetch: int) -> Subscription:
        """Consume a shared queue, again after each loss of the connection."""
        if self._away:
            raise BusUnavailable("the connection is lost")
        restored = Restored(self, queue, handler, prefetch)
        self._subscriptions = [*(known for known in self._subscriptions if known.wanted), restored]
        return restored

    async def depth(self, queue: str) -> int:
        """Messages ready. Raises BusUnavailable."""
        if self._away:
            raise BusUnavailable("the connection is lost")
        return await super().depth(queue)

    async def close(self) -> None:
        """Consume no more."""
        for subscription in self._subscriptions:
            await subscription.cancel()
        await super().close()

    async def blink(self, seconds: float) -> None:
        """Lose the connection for a while: what was not settled goes to others, and handlers are cancelled."""
        self._away = True
        for subscription in [known for known in self._subscriptions if known.wanted]:
            await subscription.lose()
        await asyncio.sleep(seconds)
        self._away = False
        for subscription in [known for known in self._subscriptions if known.wanted]:
            subscription.attach()

    def attach_to(self, queue: str, handler: Handler, prefetch: int) -> MemoryConsumer:
        """A consumer that lasts as long as the connection."""
        return self._attach(self._broker.queue(queue), handler, prefetch)

    def _attach(self, queue: MemoryQueue, handler: Handler, prefetch: int) -> MemoryConsumer:
        async def handle(message: Incoming) -> None:
            self._world.step("delivered", f"{self._process.name} {queue.name} {message.message_id}")
            await handler(replace(message, ack=lambda: self._ack(queue.name, message)))

        return super()._attach(queue, handle, prefetch)

    async def _ack(self, queue: str, message: Incoming) -> None:
        if queue in ACK_POINTS:
            await self._world.point(ACK_POINTS[queue], self._process)
        await message.ack()

    def _accept(self, message: Outgoing) -> None:
        """The broker has it. Raises Unroutable where no queue takes it."""
        if message.mandatory and not self._broker.routed(message):
            raise Unroutable(f"{message.exchange}/{message.routing_key}: no queue takes it")
        self._deliver(message)
        if self._world.happens(REPEATED):
            self._world.fault(f"repeated {message.exchange} {message.routing_key}")
            self._deliver(message)

    def _deliver(self, message: Outgoing) -> None:
        slow = self._world.happens(SLOW)
        self._world.later(self._world.chance.uniform(0, DELAY if slow else LATENCY), self._broker.route, message)

    def drop(self) -> None:
        """The broker takes the process for dead; private queues are spared, as if they came back at once."""
        for subscription in self._subscriptions:
            subscription.sever()

    def _die(self) -> None:
        for consumer in self._consumers:
            consumer.sever()


class Restored:
    """A subscription over many connections."""

    def __init__(self, bus: SimulatedBus, queue: str, handler: Handler, prefetch: int) -> None:
        self._bus = bus
        self._queue = queue
        self._handler = handler
        self._prefetch = prefetch
        self.wanted = True
        self._consumer = bus.attach_to(queue, handler, prefetch)

    @property
    def attached(self) -> bool:
        """Whether the broker has the consumer at the moment."""
        return self._consumer.attached

    def attach(self) -> None:
        """Consume on the present connection."""
        if not self.attached:
            self._consumer = self._bus.attach_to(self._queue, self._handler, self._prefetch)

    def sever(self) -> None:
        """The broker gives what was not settled to others; this process has not noticed."""
        self._consumer.sever()

    async def lose(self) -> None:
        """The connection is lost."""
        await self._consumer.lose()

    async def cancel(self) -> None:
        """Take no more."""
        self.wanted = False
        await self._consumer.cancel()
