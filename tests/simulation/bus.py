"""The connection of one process to the broker, on a network that loses, delays, reorders and repeats messages."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from contracts.topology import COMMANDS, CONTROL_QUEUE, EVENTS, PHASE_QUEUES, SUBMISSIONS_QUEUE
from infra.bus.inprocess import InProcessBus
from infra.bus.inprocess_queue import InProcessConsumer, InProcessQueue
from infra.bus.port import (
    BusUnavailable,
    Handler,
    IncomingMessage,
    OutgoingMessage,
    PublishFailed,
    Subscription,
    Unroutable,
)
from tests.simulation.process import Process
from tests.simulation.world import World

LOST, UNCONFIRMED, REPEATED, SLOW = 0.01, 0.01, 0.01, 0.05
"""Shares of messages that do not reach the broker, whose confirm is lost, that arrive twice, and that arrive late."""
LATENCY, DELAY, SLOW_CONFIRM = 0.002, 15.0, 0.1
"""Maximum seconds of an ordinary delivery, of a late delivery, and of the late confirm of an event."""
ACK_POINTS = {
    CONTROL_QUEUE.name: "after-apply-before-ack",
    SUBMISSIONS_QUEUE.name: "after-answer-before-ack",
    **{queue.name: "after-claim-before-ack" for queue in PHASE_QUEUES.values()},
}


class SimulatedBus(InProcessBus):
    """A connection that is restored after a loss, like a robust connection to RabbitMQ."""

    name = "simulated"

    def __init__(self, world: World, process: Process) -> None:
        super().__init__(world.broker)
        self._world = world
        self._process = process
        self._disconnected = False
        self._subscriptions: list[ReconnectingSubscription] = []
        process.on_exit.append(self._sever_consumers)

    async def publish(self, message: OutgoingMessage) -> None:
        """Publish and await the confirm; the delivery may come later. Raises PublishFailed if either is lost."""
        await asyncio.sleep(self._world.rng.uniform(0, LATENCY))
        if message.exchange == EVENTS.name:
            await self._world.crash_point("after-work-before-publish", self._process)
        if self._disconnected:
            raise PublishFailed("the connection is lost")
        if self._world.happens(LOST):
            self._world.fault(f"lost {message.exchange} {message.routing_key}")
            raise PublishFailed("the message was lost before it reached the broker")
        self._route(message)
        if message.exchange == EVENTS.name and self._world.happens(SLOW):
            await asyncio.sleep(self._world.rng.uniform(0, SLOW_CONFIRM))
        if message.exchange in {COMMANDS.name, EVENTS.name}:
            await self._world.crash_point("after-publish-before-confirm", self._process)
        if self._disconnected or self._world.happens(UNCONFIRMED):
            self._world.fault(f"unconfirmed {message.exchange} {message.routing_key}")
            raise PublishFailed("the confirm was lost")

    async def consume(self, queue: str, handler: Handler, *, prefetch: int) -> Subscription:
        """Consume a shared queue, also after each reconnection."""
        if self._disconnected:
            raise BusUnavailable("the connection is lost")
        subscription = ReconnectingSubscription(self, queue, handler, prefetch)
        self._subscriptions = [*self._active(), subscription]
        return subscription

    async def depth(self, queue: str) -> int:
        """The number of ready messages. Raises BusUnavailable."""
        if self._disconnected:
            raise BusUnavailable("the connection is lost")
        return await super().depth(queue)

    async def close(self) -> None:
        """Cancel every subscription and close the bus."""
        for subscription in self._subscriptions:
            await subscription.cancel()
        await super().close()

    async def disconnect(self, seconds: float) -> None:
        """Lose the connection for `seconds`: unsettled messages are requeued and handlers are cancelled."""
        self._disconnected = True
        for subscription in self._active():
            await subscription.lose()
        await asyncio.sleep(seconds)
        self._disconnected = False
        for subscription in self._active():
            subscription.attach()

    def attach_to(self, queue: str, handler: Handler, prefetch: int) -> InProcessConsumer:
        """A consumer on the present connection."""
        return self._attach(self._broker.queue(queue), handler, prefetch)

    def _active(self) -> list[ReconnectingSubscription]:
        return [subscription for subscription in self._subscriptions if subscription.active]

    def _attach(self, queue: InProcessQueue, handler: Handler, prefetch: int) -> InProcessConsumer:
        async def handle(message: IncomingMessage) -> None:
            self._world.step("delivered", f"{self._process.name} {queue.name} {message.message_id}")
            await handler(replace(message, ack=lambda: self._ack(queue.name, message)))

        return super()._attach(queue, handle, prefetch)

    async def _ack(self, queue: str, message: IncomingMessage) -> None:
        if queue in ACK_POINTS:
            await self._world.crash_point(ACK_POINTS[queue], self._process)
        await message.ack()

    def _route(self, message: OutgoingMessage) -> None:
        """Deliver the message, sometimes twice. Raises Unroutable if it is mandatory and no queue is bound for it."""
        if message.mandatory and not self._broker.routed(message):
            raise Unroutable(f"{message.exchange}/{message.routing_key}: no queue is bound for this key")
        self._deliver_later(message)
        if self._world.happens(REPEATED):
            self._world.fault(f"repeated {message.exchange} {message.routing_key}")
            self._deliver_later(message)

    def _deliver_later(self, message: OutgoingMessage) -> None:
        slow = self._world.happens(SLOW)
        self._world.later(self._world.rng.uniform(0, DELAY if slow else LATENCY), self._broker.route, message)

    def drop(self) -> None:
        """Do the broker's part of a missed heartbeat: remove the consumers of shared queues, not of private ones."""
        for subscription in self._subscriptions:
            subscription.sever()

    def _sever_consumers(self) -> None:
        for consumer in self._consumers:
            consumer.sever()


class ReconnectingSubscription:
    """A subscription that is consumed again on each new connection."""

    def __init__(self, bus: SimulatedBus, queue: str, handler: Handler, prefetch: int) -> None:
        self._bus = bus
        self._queue = queue
        self._handler = handler
        self._prefetch = prefetch
        self.active = True
        self._consumer = bus.attach_to(queue, handler, prefetch)

    @property
    def attached(self) -> bool:
        """Whether the consumer is attached to the broker at the moment."""
        return self._consumer.attached

    def attach(self) -> None:
        """Consume on the present connection."""
        if not self.attached:
            self._consumer = self._bus.attach_to(self._queue, self._handler, self._prefetch)

    def sever(self) -> None:
        """Requeue the unsettled messages at the broker; the handlers of this process go on."""
        self._consumer.sever()

    async def lose(self) -> None:
        """Requeue the unsettled messages and cancel the handlers."""
        await self._consumer.lose()

    async def cancel(self) -> None:
        """Receive no more messages."""
        self.active = False
        await self._consumer.cancel()
