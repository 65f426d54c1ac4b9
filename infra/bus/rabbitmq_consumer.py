"""A consumer on RabbitMQ that comes back: after a restart of the broker, a lost connection, a deleted queue."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

import structlog
from aio_pika.abc import AbstractIncomingMessage, AbstractRobustChannel, AbstractRobustQueue
from aio_pika.exceptions import CONNECTION_EXCEPTIONS
from aiormq.abc import AbstractChannel

from infra.bus.handling import guarded
from infra.bus.port import BusUnavailable, Handler
from infra.bus.rabbitmq_delivery import Delivery
from infra.ending import end

ATTACH_TIMEOUT = 15.0
RETRY_AFTER = 1.0

log = structlog.get_logger(__name__)
Declare = Callable[[AbstractRobustChannel], Awaitable[AbstractRobustQueue]]


class Consumer:
    """A consumer with a channel, and so a prefetch, of its own.

    The robust connection reopens the channel; what is on it is restored here, each consumer by itself, so that one
    queue that cannot be declared holds up no other consumer, and `attached` says what the broker said.
    """

    def __init__(self, channel: AbstractRobustChannel, declare: Declare, handler: Handler, prefetch: int) -> None:
        self._channel = channel
        self._declare = declare
        self._handler = handler
        self._prefetch = prefetch
        self._queue: AbstractRobustQueue | None = None
        self._tag: str | None = None
        self._underlay: AbstractChannel | None = None
        self._deliveries: set[Delivery] = set()
        self._restoring: asyncio.Task[None] | None = None
        self._closing: asyncio.Task[None] | None = None
        self._failed = False
        self.cancelled = False

    async def start(self) -> None:
        """Attach for the first time, and from then on after every loss. Raises what the broker says."""
        await self._channel.set_qos(self._prefetch, timeout=ATTACH_TIMEOUT)
        await self._attach()
        self._channel.reopen_callbacks.add(self._reopened)

    @property
    def attached(self) -> bool:
        """Whether the broker has confirmed this consumer on a channel that is still open."""
        channel = self._underlay
        return self._tag is not None and channel is not None and not channel.is_closed

    @property
    def queue(self) -> str:
        """The name of its queue, which for a private one changes with every reconnection."""
        return self._queue.name if self._queue is not None else ""

    async def cancel(self) -> None:
        """Take no more. What was delivered meanwhile is given back, what is being handled stays with its handler."""
        if self.cancelled:
            return
        self.cancelled = True
        if self._restoring is not None:
            self._restoring.cancel()
        if self.attached and self._queue is not None and self._tag is not None:
            tag, self._tag = self._tag, None
            try:
                await self._queue.cancel(tag, timeout=ATTACH_TIMEOUT)
            except (*CONNECTION_EXCEPTIONS, TimeoutError) as error:
                log.info("consumer_lost_before_cancel", queue=self.queue, error=str(error))
        self._close_when_idle()

    async def abandon(self) -> None:
        """The bus closes: stop restoring. The broker takes back whatever is not settled."""
        self.cancelled = True
        await end(*(task for task in (self._restoring, self._closing) if task is not None))

    @property
    def closed(self) -> bool:
        """Whether it was cancelled and its channel given back."""
        return self._closing is not None and self._closing.done()

    async def _attach(self) -> None:
        async with asyncio.timeout(ATTACH_TIMEOUT):
            self._queue = await self._declare(self._channel)
            underlay = await self._channel.get_underlay_channel()
            underlay.on_consumer_cancel_callbacks.add(self._lost)
            self._tag = await self._queue.consume(self._deliver, robust=False)
            self._underlay = underlay

    def _reopened(self, *_: object) -> None:
        """The channel is new: what it delivered before is the broker's again."""
        self._deliveries.clear()
        if self.cancelled:
            self._close_when_idle()
        else:
            self._restore()

    def _lost(self, frame: object) -> None:
        """The broker cancelled us, because the queue was deleted or its leader went away."""
        log.warning("consumer_cancelled_by_broker", queue=self.queue, frame=str(frame))
        self._tag = None
        if not self.cancelled:
            self._restore()

    def _restore(self) -> None:
        if self._restoring is not None:
            self._restoring.cancel()
        self._restoring = asyncio.create_task(self._restore_until_attached())

    async def _restore_until_attached(self) -> None:
        """Try again once a second. A failure that closed the channel brings a new call, hence the flag."""
        while not self.attached:
            if self._failed:
                await asyncio.sleep(RETRY_AFTER)
            try:
                await self._attach()
                self._failed = False
            except (*CONNECTION_EXCEPTIONS, BusUnavailable, TimeoutError) as error:
                self._failed = True
                log.warning("consumer_not_restored", queue=self.queue, error=str(error))
        log.info("consumer_restored", queue=self.queue)

    async def _deliver(self, message: AbstractIncomingMessage) -> None:
        delivery = Delivery(message, self._progressed)
        if self.cancelled:
            await delivery.requeue()
            return
        self._deliveries.add(delivery)
        try:
            await guarded(self._handler, delivery.incoming, delivery.refuse)
        finally:
            delivery.handled = True
            self._progressed(delivery)

    def _progressed(self, delivery: Delivery) -> None:
        if delivery.handled and delivery.settled:
            self._deliveries.discard(delivery)
            self._close_when_idle()

    def _close_when_idle(self) -> None:
        """Once cancelled and done, give the channel back: from a task, for closing ends the channel's own tasks."""
        if self.cancelled and not self._deliveries and self._closing is None:
            self._closing = asyncio.create_task(self._close())

    async def _close(self) -> None:
        with suppress(*CONNECTION_EXCEPTIONS, TimeoutError):
            async with asyncio.timeout(ATTACH_TIMEOUT):
                await self._channel.close()
