"""Error handling around a message handler, for both adapters: no message is lost and no message stops a consumer.

| the handler raises | then |
|---|---|
| PartUnavailable | the same call again, after pauses of up to 2 s, for as long as the part is away |
| any other TreadleError | the message is poison: it cannot be handled, and a retry would not help |
| any other exception | up to three retries, within 10 s and one message at a time; then the message is poison |

Poison is dead-lettered with its reason if its queue keeps dead letters; else it is only counted and logged.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Protocol, TypeVar

from contracts.errors import PartUnavailable, TreadleError
from infra.bus.dead_letter import cause_of, dead_letter, reason_of
from infra.bus.poison import Poison
from infra.bus.port import Bus, Handler, IncomingMessage

RETRY_PAUSES = (0.1, 0.5, 2.0)
"""Seconds before each retry of a handler that raised an unforeseen error."""
RETRY_TIME = 10.0
"""Seconds after the first unforeseen error within which the last retry begins."""
MIN_WAIT, MAX_WAIT = 0.1, 2.0
"""Minimum and maximum seconds between two calls while a part is unavailable."""
LISTENER_TIMEOUT = 2.0
"""Seconds for the handler of a private queue, which handles one message at a time."""

T = TypeVar("T")


class Retries:
    """Retries the work on the messages of one consumer; with `serial` each call runs alone, also the first one.

    Messages that wait for a retry occupy at most half of `prefetch`: if there are more, they are retried without a
    pause, so that other messages are still delivered.
    """

    def __init__(self, poison: Poison, queue: str, prefetch: int, *, serial: bool = False) -> None:
        self._poison = poison
        self._queue = queue
        self._max_waiting = prefetch // 2
        self._serial = serial
        self._lock = asyncio.Lock()
        self._waiting = 0

    async def run(self, work: Callable[[], Awaitable[T]], message_id: str | None = None) -> T:
        """The result of `work`. Raises the TreadleError or the last unforeseen error that `work` raised."""
        try:
            return await self._when_available(work, alone=self._serial)
        except TreadleError:
            raise
        except Exception as error:  # noqa: BLE001  # a handler may raise anything
            self._poison.failed(self._queue, message_id, error)
            return await self._again(work, error)

    async def _again(self, work: Callable[[], Awaitable[T]], error: Exception) -> T:
        deadline = _now() + RETRY_TIME
        self._waiting += 1
        try:
            for pause in RETRY_PAUSES:
                await asyncio.sleep(0 if self._waiting > self._max_waiting else pause)
                if _now() > deadline:
                    break
                try:
                    return await self._when_available(work, alone=True, deadline=deadline)
                except TreadleError:
                    raise
                except Exception:  # noqa: BLE001, S112  # as in `run`; the first error is raised in the end
                    continue
        finally:
            self._waiting -= 1
        raise error

    async def _when_available(
        self, work: Callable[[], Awaitable[T]], *, alone: bool, deadline: float | None = None
    ) -> T:
        wait = MIN_WAIT
        while True:
            try:
                if not alone:
                    return await work()
                async with self._alone(deadline):
                    return await work()
            except PartUnavailable as error:
                self._poison.waiting(self._queue, error)
            await asyncio.sleep(random.uniform(MIN_WAIT, wait))  # noqa: S311  # spreads the calls, keeps no secret
            wait = min(2 * wait, MAX_WAIT)

    @asynccontextmanager
    async def _alone(self, deadline: float | None) -> AsyncIterator[None]:
        """Run the block alone. Raises TimeoutError if another call runs until `deadline`."""
        async with asyncio.timeout_at(deadline):
            await self._lock.acquire()
        try:
            yield
        finally:
            self._lock.release()


class Delivered(Protocol):
    """A delivery of an adapter."""

    @property
    def settled(self) -> bool:
        """Whether it is acknowledged or requeued."""
        ...

    def incoming(self) -> IncomingMessage:
        """The message as the port defines it; it may raise anything if the message is odd."""
        ...

    async def discard(self) -> None:
        """Settle it without requeueing; its queue dead-letters it, or drops it if it keeps no dead letters."""
        ...


class GuardedHandler:
    """Handles the deliveries of one consumer, each until it is settled or poison."""

    def __init__(
        self, bus: Bus, queue: str, handler: Handler, prefetch: int, *, keeps: bool, serial: bool = False
    ) -> None:
        self._bus = bus
        self._queue = queue
        self._handler = handler
        self._keeps = keeps
        self._retries = Retries(bus.poison, queue, prefetch, serial=serial)

    async def handle(self, delivery: Delivered) -> None:
        """Handle one delivery; raises only if it is cancelled."""
        try:
            await self._retries.run(partial(self._once, delivery))
        except Exception as error:  # noqa: BLE001  # a handler may raise anything
            if delivery.settled:
                self._bus.poison.record(self._queue, cause_of(error), reason_of(error), None, kept=False)
            else:
                await self._set_aside(delivery, error)

    async def _once(self, delivery: Delivered) -> None:
        if not delivery.settled:
            await self._handler(delivery.incoming())

    async def _set_aside(self, delivery: Delivered, error: Exception) -> None:
        """Dead-letter a delivery with its reason; if it cannot even be read, leave that to its queue."""
        message, cause = None, cause_of(error)
        try:
            message = delivery.incoming()
            if self._keeps:
                setting_aside = partial(dead_letter, self._bus, message, self._queue, reason_of(error), cause)
                return await self._retries.run(setting_aside)
        except Exception as odd:  # noqa: BLE001  # the message must not stop the consumer
            error = odd
        message_id = message.message_id if message else None
        self._bus.poison.record(self._queue, cause_of(error), reason_of(error), message_id, kept=self._keeps)
        await delivery.discard()
        return None


def listening(handler: Handler) -> Handler:
    """Wrap the handler of a private queue: it has LISTENER_TIMEOUT seconds, and the message is then acknowledged."""

    async def handle(message: IncomingMessage) -> None:
        async with asyncio.timeout(LISTENER_TIMEOUT):
            await handler(message)
        await message.ack()

    return handle


def _now() -> float:
    return asyncio.get_running_loop().time()
