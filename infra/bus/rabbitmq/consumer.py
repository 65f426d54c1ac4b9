"""A consumer that is restored after a broker restart, a lost connection, a deleted queue or a server-side cancel.

aio-pika's robust channels restore no consumer of a connection while one of them cannot be restored. Here each consumer
uses a plain channel, and opens a new one when that is lost.
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

from infra.asyncio_tasks import cancel_and_wait, log_failure
from infra.bus.handling import GuardedHandler
from infra.bus.port import BusUnavailable
from infra.bus.rabbitmq.calls import BROKER_ERRORS, call_timeout
from infra.bus.rabbitmq.declarations import look_up
from infra.bus.rabbitmq.messages import Delivery

RETRY_AFTER = 1.0
"""Seconds."""

log = structlog.get_logger(__name__)
Declare = Callable[[AbstractChannel], Awaitable[AbstractQueue]]
"""Declares and returns the queue to consume."""
Bind = Callable[[AbstractChannel, str], Awaitable[None]]
"""Binds the queue of this name."""


async def has_consumer(channel: AbstractChannel) -> bool:
    """Whether the channel is open and the broker has not cancelled its consumer."""
    if channel.is_closed:
        return False
    underlay = await channel.get_underlay_channel()
    assert isinstance(underlay, aiormq.Channel), "the abstract class has no attribute `consumers`"
    return bool(underlay.consumers)


async def reopen(channel: AbstractChannel) -> None:
    """Have a robust channel opened again, and its consumers registered again."""
    with suppress(*BROKER_ERRORS):
        async with call_timeout():
            underlay = await channel.get_underlay_channel()
            await underlay.close(ConnectionError("the broker has forgotten the consumer"))


class Attachment:
    """A consumer on one channel; closing the channel cancels the handlers that run."""

    def __init__(self, channel: AbstractChannel, handler: GuardedHandler) -> None:
        self._channel = channel
        self._handler = handler
        self._queue: AbstractQueue | None = None
        self._tag = ""
        self._in_progress: set[Delivery] = set()
        self._detaching = False
        self._closing: asyncio.Task[None] | None = None
        self.lost = asyncio.Event()

    async def attach(self, declare: Declare, prefetch: int) -> None:
        """Open the channel, declare the queue and consume it. Closes the channel if one of these calls raises."""
        self._channel.close_callbacks.add(self._on_lost)
        try:
            async with call_timeout():
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
        """Receive no more deliveries, and close the channel when those in progress are handled and settled."""
        self._detaching = True
        if self._queue is not None and not self.lost.is_set():
            try:
                async with call_timeout():
                    await self._queue.cancel(self._tag)
            except BROKER_ERRORS as error:
                log.info("consumer_lost_before_cancel", queue=self.queue, error=str(error))
            except BaseException:  # the consumer may still be registered: close the channel at once
                self._in_progress.clear()
                self._close_when_idle()
                raise
        self._close_when_idle()

    async def close(self) -> None:
        """Close the channel; the broker then requeues every unsettled delivery."""
        with suppress(*BROKER_ERRORS):
            async with call_timeout():
                await self._channel.close()

    @property
    def closed(self) -> bool:
        """Whether the channel is closed, or was lost."""
        return self._channel.is_closed

    def _on_lost(self, *_: object) -> None:
        self.lost.set()

    async def _deliver(self, message: DeliveredMessage) -> None:
        delivery = Delivery(message, self._on_progress)
        self._in_progress.add(delivery)
        try:
            await self._handler.handle(delivery)
        finally:
            delivery.handled = True
            self._on_progress(delivery)

    def _on_progress(self, delivery: Delivery) -> None:
        if delivery.handled and delivery.settled:
            self._in_progress.discard(delivery)
            if self._detaching:
                self._close_when_idle()

    def _close_when_idle(self) -> None:
        """Close the channel in a new task, because closing cancels the tasks of the channel, possibly the caller."""
        if not self._in_progress and self._closing is None:
            self._closing = asyncio.create_task(self.close(), name="closing a channel")


class Consumer:
    """Keeps one consumer attached to its queue until it is cancelled."""

    def __init__(
        self,
        connection: AbstractRobustConnection,
        declare: Declare,
        handler: GuardedHandler,
        prefetch: int,
        bind: Bind | None = None,
    ) -> None:
        self._connection = connection
        self._declare = declare
        self._bind = bind
        self._handler = handler
        self._prefetch = prefetch
        self._attachment: Attachment | None = None
        self._restoring: asyncio.Task[None] | None = None
        self._cancelled = False

    async def start(self) -> None:
        """Attach, and again after every loss. Raises BusUnavailable or one of BROKER_ERRORS if the first time fails."""
        self._attachment = await self._attach()
        self._restoring = asyncio.create_task(self._restore(self._attachment), name=f"consumer of {self.queue}")
        log_failure(self._restoring)

    @property
    def attached(self) -> bool:
        """Whether the broker has confirmed this consumer on a channel that is still open."""
        return not self._cancelled and self._attachment is not None and not self._attachment.lost.is_set()

    @property
    def queue(self) -> str:
        """The name of the queue; a private queue has a new name after every reconnection."""
        return self._attachment.queue if self._attachment is not None else ""

    async def check(self, channel: AbstractChannel) -> None:
        """Bind a private queue again, and attach again if a shared queue has no consumer.

        A consumer notices neither that its binding is lost, nor that its queue was deleted and declared again at once.
        """
        attachment = self._attachment
        if attachment is None or not self.attached:
            return
        if self._bind is not None:
            await self._bind(channel, self.queue)
        elif (await look_up(channel, self.queue)).declaration_result.consumer_count == 0:
            log.warning("consumer_forgotten", queue=self.queue)
            attachment.lost.set()

    async def cancel(self) -> None:
        """Receive no more deliveries; the handlers that run are not cancelled."""
        self._cancelled = True
        try:
            await self._stop_restoring()
        finally:
            if self._attachment is not None:
                await self._attachment.detach()

    async def abandon(self) -> None:
        """Stop restoring the consumer, because the bus closes its connection."""
        self._cancelled = True
        await self._stop_restoring()

    @property
    def closed(self) -> bool:
        """Whether the consumer is cancelled and its channel is closed."""
        return self._cancelled and (self._attachment is None or self._attachment.closed)

    async def _attach(self) -> Attachment:
        async with call_timeout():
            await self._connection.ready()
        attachment = Attachment(Channel(self._connection, publisher_confirms=False), self._handler)
        await attachment.attach(self._declare, self._prefetch)
        return attachment

    async def _restore(self, attachment: Attachment) -> None:
        """Attach again whenever the attachment is lost, with retries until it succeeds."""
        while True:
            attached_at = time.monotonic()
            await attachment.lost.wait()
            log.info("consumer_lost", queue=attachment.queue)
            await attachment.close()
            if time.monotonic() - attached_at < RETRY_AFTER:
                await asyncio.sleep(RETRY_AFTER)
            attachment = self._attachment = await self._attach_with_retries(attachment.queue)
            log.info("consumer_restored", queue=attachment.queue)

    async def _attach_with_retries(self, queue: str) -> Attachment:
        while True:
            try:
                return await self._attach()
            except (*BROKER_ERRORS, BusUnavailable) as error:
                log.warning("consumer_not_restored", queue=queue, error=str(error) or type(error).__name__)
                await asyncio.sleep(RETRY_AFTER)

    async def _stop_restoring(self) -> None:
        if self._restoring is not None:
            await cancel_and_wait(self._restoring)
