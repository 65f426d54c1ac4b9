"""One of pika's channels, with answers to await where pika calls back, and an end to await too."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, TypeVar

import structlog
from pika.channel import Channel as PikaChannel
from pika.connection import Connection
from pika.exceptions import AMQPError
from pika.spec import Basic

from infra.bus.port import BusUnavailable
from infra.ending import say_if_broken

AWAY = (AMQPError, OSError)
"""What says that the connection or the channel is gone, or refused what was asked."""
ANSWER_TIMEOUT = 15.0
RETRY_AFTER = 1.0

T = TypeVar("T")
log = structlog.get_logger(__name__)


class Channel:
    """A channel in its one life: once closed it stays closed, and whoever needs one opens another."""

    def __init__(self, raw: PikaChannel) -> None:
        self.raw = raw
        self._loop = asyncio.get_running_loop()
        self._asked: set[asyncio.Future[Any]] = set()
        self._ended: asyncio.Future[Exception] = self._loop.create_future()
        self._none_there: Callable[[Any], None] = lambda _: None
        raw.add_on_close_callback(lambda _, reason: self.end(reason))
        raw.add_callback(lambda _: self._none_there(None), [Basic.GetEmpty], one_shot=False)

    @classmethod
    async def opened(cls, connection: Connection) -> Channel:
        """A new channel on a connection. Raises AMQPError, TimeoutError."""
        there: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        channel = cls(connection.channel(on_open_callback=lambda _: there.set_result(None)))
        try:
            await channel.ask(there.add_done_callback)
        except BaseException:
            channel.close()
            raise
        return channel

    @property
    def open(self) -> bool:
        """Whether it can be used."""
        return not self._ended.done() and bool(self.raw.is_open)

    async def ask(self, step: Callable[[Callable[[Any], None]], object]) -> Any:  # noqa: ANN401 - pika's frames
        """Do `step` with a callback, and await what that is called with. Raises AMQPError, TimeoutError."""
        answer: asyncio.Future[Any] = self._loop.create_future()
        self._asked.add(answer)
        try:
            step(lambda frame: None if answer.done() else answer.set_result(frame))
            async with asyncio.timeout(ANSWER_TIMEOUT):
                return await answer
        finally:
            self._asked.discard(answer)

    async def get(self, queue: str) -> tuple[Basic.GetOk, Any, bytes] | None:
        """The oldest message that is ready in a queue, or None."""

        def ask(answered: Callable[[Any], None]) -> None:
            self._none_there = answered
            self.raw.basic_get(queue, lambda _, method, properties, body: answered((method, properties, body)))

        found: tuple[Basic.GetOk, Any, bytes] | None = await self.ask(ask)
        return found

    def end(self, reason: Exception) -> None:
        """It is of no use any more: closed, or its consumer was cancelled by the broker."""
        if self._ended.done():
            return
        self._ended.set_result(reason)
        for answer in self._asked:
            if not answer.done():
                answer.set_exception(reason)

    async def ended(self) -> Exception:
        """Await its end; gives the reason."""
        return await asyncio.shield(self._ended)

    def on_end(self, callback: Callable[[], None]) -> None:
        """Call back when it has ended."""
        self._ended.add_done_callback(lambda _: callback())

    def close(self) -> None:
        """Give it back to the broker, which takes back what it delivered and nobody settled."""
        with suppress(*AWAY):
            self.raw.close()


def restoring(attach: Callable[[], Awaitable[Channel]], channel: Channel, what: str) -> asyncio.Task[None]:
    """A task that attaches anew whenever the channel has ended; somebody must end it."""
    task = asyncio.create_task(_restore(attach, channel, what), name=what)
    say_if_broken(task)
    return task


async def _restore(attach: Callable[[], Awaitable[Channel]], channel: Channel, what: str) -> None:
    """Whenever the channel has ended, attach anew, for as long as it takes; for ever."""
    while True:
        attached = time.monotonic()
        reason = await channel.ended()
        log.info("channel_lost", what=what, reason=str(reason))
        channel.close()
        if time.monotonic() - attached < RETRY_AFTER:
            await asyncio.sleep(RETRY_AFTER)
        channel = await _until_attached(attach, what)
        log.info("channel_restored", what=what)


async def _until_attached(attach: Callable[[], Awaitable[Channel]], what: str) -> Channel:
    while True:
        try:
            return await attach()
        except (*AWAY, BusUnavailable, TimeoutError) as error:
            log.warning("channel_not_restored", what=what, error=str(error) or type(error).__name__)
            await asyncio.sleep(RETRY_AFTER)
