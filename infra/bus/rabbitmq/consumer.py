"""A consumer that comes back after a restart of the broker, a lost connection, a deleted queue or a server-side cancel.

aio-pika's robust channels restore all consumers of a connection, or none while one of them cannot be restored. Here
each consumer has a plain channel for one life, and opens another when that ends.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress

import aiormq
import structlog
from aio_pika import Channel
from aio_pika.abc import (
    AbstractChannel,
    AbstractQueue,
    AbstractRobustConnection,
)
from aiormq.abc import DeliveredMessage

from infra.bus.handling import guarded
from infra.bus.port import BusUnavailable, Handler
from infra.bus.rabbitmq.calls import AWAY, calling
from infra.bus.rabbitmq.messages import Delivery
from infra.tasks import end, say_if_broken

RETRY_AFTER = 1.0

log = structlog.get_logger(__name__)
Declare = Callable[[AbstractChannel], Awaitable[AbstractQueue]]
"""Declares the queue to consume."""


async def has_consumer(channel: AbstractChannel) -> bool:
    """Whether the channel is open and the broker has not cancelled its consumer."""
    if channel.is_closed:
        return False
    underlay = await channel.get_underlay_channel()
    assert isinstance(underlay, aiormq.Channel), "the abstract class does not have `consumers`"
    return bool(underlay.consumers)


class Attachment:
    """A consumer's one life on one channel. Closing the channel cancels the handlers that run."""

    def __init__(self, channel: AbstractChannel, handler: Handler) -> None:
        self._channel = channel
        self._handler = handler
        self._queue: AbstractQueue | None = None
        self._tag = ""
        self._open: set[Delivery] = set()
        self._last = False
        self._closing: asyncio.Task[None] | None = None
        self.lost = asyncio.Event()

    async def attach(self, declare: Declare, prefetch: int) -> None:
        """Open the channel, declare the queue and consume it. Raises what aio-pika raises, with the channel closed."""
        self._channel.close_callbacks.add(self._on_lost)
        try:
            async with calling():
                await self._channel.initialize()
                await self._channel.set_qos(prefetch)
                self._queue = await declare(self._channel)
                underlay = await self._channel.get_underlay_channel()
                underlay.on_consumer_cancel_callbacks.add(self._on_lost)
                consuming = await underlay.basic_consume(self._queue.name, self._deliver)
                self._tag = consuming.consumer_tag or ""
        except BaseException:
            await self.close()
            raise

    @property
    def queue(self) -> str:
        """The name of the queue."""
        return self._queue.name if self._queue is not None else ""

    async def detach(self) -> None:
        """Take no more deliveries. The channel is closed once those under way are handled and settled."""
        self._last = True
        if self._queue is not None and not self.lost.is_set():
            try:
                async with calling():
                    await self._queue.cancel(self._tag)
            except AWAY as error:
                log.info("consumer_lost_before_cancel", queue=self.queue, error=str(error))
            except BaseException:  # broken off: the consumer may still be there
                self._open.clear()
                self._close_when_idle()
                raise
        self._close_when_idle()

    async def close(self) -> None:
        """Close the channel. The broker takes back every delivery that is not settled."""
        with suppress(*AWAY):
            async with calling():
                await self._channel.close()

    @property
    def closed(self) -> bool:
        """Whether the channel is closed, or was lost."""
        return self._channel.is_closed

    def _on_lost(self, *_: object) -> None:
        self.lost.set()

    async def _deliver(self, message: DeliveredMessage) -> None:
        delivery = Delivery(message, self._on_progress)
        self._open.add(delivery)
        try:
            await guarded(self._handler, delivery.incoming, delivery.refuse)
        finally:
            delivery.handled = True
            self._on_progress(delivery)

    def _on_progress(self, delivery: Delivery) -> None:
        if delivery.handled and delivery.settled:
            self._open.discard(delivery)
            if self._last:
                self._close_when_idle()

    def _close_when_idle(self) -> None:
        """Close from a task of its own: closing cancels the tasks of the channel, and one of them may be the caller."""
        if not self._open and self._closing is None:
            self._closing = asyncio.create_task(self.close(), name="closing a channel")


class Consumer:
    """Keeps one consumer attached until it is cancelled."""

    def __init__(self, connection: AbstractRobustConnection, declare: Declare, handler: Handler, prefetch: int) -> None:
        self._connection = connection
        self._declare = declare
        self._handler = handler
        self._prefetch = prefetch
        self._attachment: Attachment | None = None
        self._restoring: asyncio.Task[None] | None = None
        self._cancelled = False

    async def start(self) -> None:
        """Attach for the first time, and from then on after every loss. Raises what the broker answers."""
        self._attachment = await self._attach()
        self._restoring = asyncio.create_task(self._restore(self._attachment), name=f"consumer of {self.queue}")
        say_if_broken(self._restoring)

    @property
    def attached(self) -> bool:
        """Whether the broker has confirmed this consumer on a channel that is still open."""
        return not self._cancelled and self._attachment is not None and not self._attachment.lost.is_set()

    @property
    def queue(self) -> str:
        """The name of the queue; a private queue has a new one after every reconnection."""
        return self._attachment.queue if self._attachment is not None else ""

    async def cancel(self) -> None:
        """Take no more deliveries; what is being handled stays with its handler."""
        self._cancelled = True
        try:
            await self._stop_restoring()
        finally:
            if self._attachment is not None:
                await self._attachment.detach()

    async def abandon(self) -> None:
        """Stop restoring, because the bus closes. The broker takes back what is not settled."""
        self._cancelled = True
        await self._stop_restoring()

    @property
    def closed(self) -> bool:
        """Whether it was cancelled and its channel is closed."""
        return self._cancelled and (self._attachment is None or self._attachment.closed)

    async def _attach(self) -> Attachment:
        async with calling():
            await self._connection.ready()
        attachment = Attachment(Channel(self._connection, publisher_confirms=False), self._handler)
        await attachment.attach(self._declare, self._prefetch)
        return attachment

    async def _restore(self, attachment: Attachment) -> None:
        """Attach again whenever the attachment is lost, for as long as it takes."""
        while True:
            attached_at = time.monotonic()
            await attachment.lost.wait()
            log.info("consumer_lost", queue=attachment.queue)
            await attachment.close()
            if time.monotonic() - attached_at < RETRY_AFTER:
                await asyncio.sleep(RETRY_AFTER)
            attachment = self._attachment = await self._until_attached(attachment.queue)
            log.info("consumer_restored", queue=attachment.queue)

    async def _until_attached(self, queue: str) -> Attachment:
        while True:
            try:
                return await self._attach()
            except (*AWAY, BusUnavailable) as error:
                log.warning("consumer_not_restored", queue=queue, error=str(error) or type(error).__name__)
                await asyncio.sleep(RETRY_AFTER)

    async def _stop_restoring(self) -> None:
        if self._restoring is not None:
            await end(self._restoring)
