"""Slots: a worker consumes only while it could really run what comes.

An unsettled delivery is bounded by the consumer's prefetch, a running job is not: its delivery was acknowledged.
So the consumer goes before an acknowledgement would let one delivery too many in.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from typing import Any

import structlog

from infra.bus.port import Bus, BusUnavailable, Incoming, Subscription
from infra.tasks import end, say_if_broken
from infra.worker.attempt import Attempt

RETRY_AFTER = 1.0

log = structlog.get_logger(__name__)
Admit = Callable[[Incoming], Awaitable[Attempt | None]]
"""Claims a delivery. Returns the attempt if that was granted; else None, and the delivery is settled."""


class Consuming:
    """One consumer in its life: at most `prefetch` of its deliveries are unsettled at once, `held` are now."""

    def __init__(self, prefetch: int) -> None:
        self.prefetch = prefetch
        self.held = 0
        self.subscription: Subscription | None = None


class Slots:
    """Invariant: running + held by consumers that are gone + the present consumer's prefetch <= size."""

    def __init__(self, bus: Bus, queue: str, admit: Admit, start: Callable[[Attempt], None], size: int) -> None:
        self._bus = bus
        self._queue = queue
        self._admit = admit
        self._start = start
        self._size = size
        self._running = 0
        self._held_before = 0
        self._now: Consuming | None = None
        self._changed = asyncio.Event()
        self._opening: asyncio.Task[None] | None = None
        self._changing = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def busy(self) -> int:
        """Slots with a job."""
        return self._running

    @property
    def attached(self) -> bool:
        """Whether the worker is consuming, or rightly is not."""
        if self._now is None:
            return self._free == 0
        return self._now.subscription is not None and self._now.subscription.attached

    @property
    def _free(self) -> int:
        return self._size - self._running - self._held_before - (self._now.prefetch if self._now else 0)

    def open(self) -> None:
        """Consume whenever there is room, from now on."""
        self._changed.set()
        self._opening = asyncio.create_task(self._keep_open(), name="slots")
        say_if_broken(self._opening)

    async def close(self, grace: float = 0.0) -> None:
        """Consume no more. Claims that are not answered within `grace` seconds are given up, their deliveries too."""
        if self._opening is not None:
            await end(self._opening)
        await self._detach()
        if grace and self._tasks:
            await asyncio.wait(self._tasks, timeout=grace)
        await end(*self._tasks)

    def free(self) -> None:
        """A job has ended."""
        self._running -= 1
        self._look_again()

    async def _keep_open(self) -> None:
        while True:
            await self._changed.wait()
            self._changed.clear()
            try:
                await self._attach()
            except BusUnavailable as error:
                log.warning("cannot_consume_yet", queue=self._queue, error=str(error))
                await asyncio.sleep(RETRY_AFTER)
                self._changed.set()

    async def _attach(self) -> None:
        async with self._changing:
            if self._now is not None or self._free < 1:
                return
            consuming = self._now = Consuming(prefetch=max(1, self._free // 2))
            handler = partial(self._deliver, consuming)
            try:
                consuming.subscription = await self._bus.consume(self._queue, handler, prefetch=consuming.prefetch)
            except BaseException:
                self._forget(consuming)
                raise

    async def _deliver(self, via: Consuming, message: Incoming) -> None:
        """Handle a delivery in a task of its own: a bus that loses the delivery does not end its claim."""
        if via is self._now:
            via.held += 1
        elif self._free > 0:  # it came while the consumer was being cancelled
            self._held_before += 1
        else:
            await message.requeue()
            return
        handling = self._spawn(self._handle(via, message))
        try:
            await asyncio.shield(handling)
        except asyncio.CancelledError:
            self._lose(via)
            raise

    async def _handle(self, via: Consuming, message: Incoming) -> None:
        """Claim the delivery; if that is granted, start the attempt and acknowledge."""
        attempt = None
        try:
            attempt = await self._admit(message)
        except asyncio.CancelledError:
            await message.requeue()
            raise
        finally:
            if attempt is None:
                self._leave(via)
                self._look_again()
        if attempt is not None:
            self._leave(via)
            self._running += 1
            self._start(attempt)
            if via is self._now and self._free < 0:  # acknowledged, it would make room for one too many
                await self._detach()
            await message.ack()
            self._look_again()

    def _look_again(self) -> None:
        """There may be room for a consumer; nothing is to be done while there is one."""
        if self._now is None:
            self._changed.set()

    def _leave(self, via: Consuming) -> None:
        if via is self._now:
            via.held -= 1
        else:
            self._held_before -= 1

    def _lose(self, via: Consuming) -> None:
        """The bus lost what this consumer holds, and would bring as much again; the claims for it are still out."""
        if via is not self._now:
            return
        self._forget(via)
        if via.subscription is not None:
            self._spawn(via.subscription.cancel())
        self._look_again()

    async def _detach(self) -> None:
        async with self._changing:
            consuming = self._now
            if consuming is None:
                return
            if consuming.subscription is not None:
                await consuming.subscription.cancel()
                await asyncio.sleep(0)  # a handler that the bus has only just scheduled is counted too
            self._forget(consuming)

    def _forget(self, consuming: Consuming) -> None:
        """No more comes by it. It may have been lost, and forgotten, while its end was awaited."""
        if self._now is consuming:
            self._held_before += consuming.held
            self._now = None

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work, name="a delivery")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        say_if_broken(task)
        return task
