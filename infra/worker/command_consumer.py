"""Consumes the commands of a phase, only while the worker has a free slot.

The prefetch of a consumer limits its unsettled deliveries but not the running attempts, whose deliveries are already
acknowledged. So the consumer is cancelled before an acknowledgement would let in a delivery without a free slot.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from typing import Any

import structlog

from infra.asyncio_tasks import cancel_and_wait, log_failure
from infra.bus.port import Bus, BusUnavailable, IncomingMessage, Subscription
from infra.worker.attempt import Attempt

RETRY_AFTER = 1.0
"""Seconds."""

log = structlog.get_logger(__name__)
ClaimDelivery = Callable[[IncomingMessage], Awaitable[Attempt | None]]
"""Claims the attempt of a delivery. Returns None, with the delivery settled, if the claim is not granted."""


class OpenConsumer:
    """One consumer from its start to its cancellation or loss.

    At most `prefetch` of its deliveries are unsettled; `pending` counts the deliveries whose claim is not decided.
    """

    def __init__(self, prefetch: int) -> None:
        self.prefetch = prefetch
        self.pending = 0
        self.subscription: Subscription | None = None


class CommandConsumer:
    """Limits the attempts of a worker to `slots`.

    Invariant: running attempts + pending deliveries of former consumers + prefetch of the current consumer <= slots.
    """

    def __init__(
        self,
        bus: Bus,
        queue: str,
        claim: ClaimDelivery,
        start: Callable[[Attempt], None],
        slots: int,
        may_claim: Callable[[], bool] = lambda: True,
    ) -> None:
        self._bus = bus
        self._queue = queue
        self._claim = claim
        self._start = start
        self._slots = slots
        self._may_claim = may_claim
        self._suspended = False
        self._running = 0
        self._formerly_pending = 0
        """Pending deliveries of consumers that were cancelled or lost."""
        self._current: OpenConsumer | None = None
        self._attach_needed = asyncio.Event()
        self._attaching: asyncio.Task[None] | None = None
        self._lock = asyncio.Lock()
        """Held while a consumer is attached or detached."""
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def busy(self) -> int:
        """The number of slots with a running attempt."""
        return self._running

    @property
    def attached(self) -> bool:
        """Whether the worker is consuming, or has no free slot."""
        if self._current is None:
            return self._free == 0
        return self._current.subscription is not None and self._current.subscription.attached

    @property
    def _free(self) -> int:
        reserved = self._current.prefetch if self._current else 0
        return self._slots - self._running - self._formerly_pending - reserved

    def open(self) -> None:
        """Start to consume whenever a slot is free."""
        self._attach_needed.set()
        self._attaching = asyncio.create_task(self._attach_when_needed(), name="slots")
        log_failure(self._attaching)

    async def close(self, grace: float = 0.0) -> None:
        """Stop consuming; cancel the claims that are not answered within `grace` seconds and requeue their commands."""
        if self._attaching is not None:
            await cancel_and_wait(self._attaching)
        await self._detach()
        if grace and self._tasks:
            await asyncio.wait(self._tasks, timeout=grace)
        await cancel_and_wait(*self._tasks)

    async def suspend(self) -> None:
        """Stop consuming until `resume`; running attempts and pending claims go on."""
        self._suspended = True
        await self._detach()
        if not self._suspended:  # resumed during the detachment
            self._attach_if_detached()

    def resume(self) -> None:
        """Consume again after `suspend`."""
        self._suspended = False
        self._attach_if_detached()

    def free(self) -> None:
        """Free the slot of an attempt that has ended."""
        self._running -= 1
        self._attach_if_detached()

    async def _attach_when_needed(self) -> None:
        while True:
            await self._attach_needed.wait()
            self._attach_needed.clear()
            try:
                await self._attach()
            except BusUnavailable as error:
                log.warning("consume_failed", queue=self._queue, error=str(error))
                await asyncio.sleep(RETRY_AFTER)
                self._attach_needed.set()

    async def _attach(self) -> None:
        async with self._lock:
            if self._suspended or self._current is not None or self._free < 1:
                return
            consumer = self._current = OpenConsumer(prefetch=max(1, self._free // 2))
            handler = partial(self._deliver, consumer)
            try:
                consumer.subscription = await self._bus.consume(self._queue, handler, prefetch=consumer.prefetch)
            except BaseException:
                self._retire(consumer)
                raise

    async def _deliver(self, consumer: OpenConsumer, message: IncomingMessage) -> None:
        """Handle a delivery in a task of its own, so that losing the delivery does not cancel its claim.

        Raises what the claim raises; the bus then delivers the message to this method again.
        """
        if consumer is self._current:
            consumer.pending += 1
        elif self._free > 0:  # delivered while the consumer was being cancelled
            self._formerly_pending += 1
        else:
            await message.requeue()
            return
        handling = self._spawn(self._handle(consumer, message))
        try:
            await asyncio.shield(handling)
        except asyncio.CancelledError:
            self._on_deliveries_lost(consumer)
            raise

    async def _handle(self, consumer: OpenConsumer, message: IncomingMessage) -> None:
        """Claim the attempt of a delivery; if the claim is granted, start the attempt and acknowledge the delivery.

        If the worker may not claim, it stops consuming before the requeue, so that another worker gets the delivery.
        """
        attempt = None
        try:
            if self._may_claim():
                attempt = await self._claim(message)
            else:
                await self.suspend()
                await message.requeue()
        except asyncio.CancelledError:
            await message.requeue()
            raise
        finally:
            if attempt is None:
                self._remove_pending(consumer)
                self._attach_if_detached()
        if attempt is not None:
            self._remove_pending(consumer)
            self._running += 1
            self._start(attempt)
            if consumer is self._current and self._free < 0:  # the acknowledgement would let in one delivery too many
                await self._detach()
            await message.ack()
            self._attach_if_detached()

    def _attach_if_detached(self) -> None:
        """Request a new consumer unless there is one."""
        if self._current is None:
            self._attach_needed.set()

    def _remove_pending(self, consumer: OpenConsumer) -> None:
        if consumer is self._current:
            consumer.pending -= 1
        else:
            self._formerly_pending -= 1

    def _on_deliveries_lost(self, consumer: OpenConsumer) -> None:
        """Replace the consumer, which would receive `prefetch` more deliveries while the old claims are pending."""
        if consumer is not self._current:
            return
        self._retire(consumer)
        if consumer.subscription is not None:
            log_failure(self._spawn(consumer.subscription.cancel()))
        self._attach_if_detached()

    async def _detach(self) -> None:
        async with self._lock:
            consumer = self._current
            if consumer is None:
                return
            if consumer.subscription is not None:
                await consumer.subscription.cancel()
                await asyncio.sleep(0)  # let a handler that the bus has just scheduled start, so that it is counted
            self._retire(consumer)

    def _retire(self, consumer: OpenConsumer) -> None:
        """Make a consumer a former one, unless it was lost and retired during its cancellation."""
        if self._current is consumer:
            self._formerly_pending += consumer.pending
            self._current = None

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work, name="a delivery")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task
