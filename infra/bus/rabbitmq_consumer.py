"""A consumer on RabbitMQ that comes back: after a restart of the broker, a lost connection, a deleted queue."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import structlog
from pika import BasicProperties
from pika.exceptions import ConsumerCancelled
from pika.spec import Basic

from infra.bus.handling import guarded
from infra.bus.port import Handler, Incoming
from infra.bus.rabbitmq_channel import AWAY, Channel, restoring
from infra.bus.rabbitmq_delivery import to_incoming
from infra.bus.rabbitmq_link import Link
from infra.bus.rabbitmq_settling import Settling
from infra.bus.rabbitmq_sharing import Whole, unpack
from infra.ending import end

CLOSE_TIMEOUT = 5.0

log = structlog.get_logger(__name__)
Declare = Callable[[Channel], Awaitable[str]]
"""Makes the queue that is to be consumed, and gives its name."""


class Deliveries:
    """What a consumer's channel has delivered: each handled in a task, cancelled when the channel is lost."""

    def __init__(self, channel: Channel, handler: Handler, prefetch: int) -> None:
        self._channel = channel
        self._handler = handler
        self._settling = Settling(channel, max(1, prefetch // 4), self._settled)
        self._tasks: set[asyncio.Task[None]] = set()
        self._last = False
        channel.on_end(self._settling.flush)  # a consumer that the broker cancelled has its channel for a moment yet
        channel.on_end(self.cancel)

    def take(self, _: object, method: Basic.Deliver, properties: BasicProperties, body: bytes) -> None:
        """Handle a delivery, in a task of its own. Nothing may be raised here: pika would end the connection."""
        tag: int = method.delivery_tag
        self._settling.add(tag)
        try:
            self._begin(tag, method, properties, body)
        except Exception:  # a message of a kind that nobody foresaw
            log.exception("delivery_unreadable", routing_key=method.routing_key)
            self._settling.give_back(tag, harmful=True)

    def _begin(self, tag: int, method: Basic.Deliver, properties: BasicProperties, body: bytes) -> None:
        parts = unpack(properties, body)
        whole = Whole(len(parts), *self._settling.for_one(tag))
        for part, content in parts:
            task = asyncio.create_task(self._handle(tag, to_incoming(method, part, content, *whole.part())))
            self._tasks.add(task)
            task.add_done_callback(self._done)

    def close_when_idle(self) -> None:
        """No more will come: give the channel back once all is handled and settled."""
        self._last = True
        self._settling.flush()
        if self._settling.idle and not self._tasks:
            self._channel.close()

    @property
    def closed(self) -> bool:
        """Whether the channel was given back, or lost."""
        return not self._channel.open

    def flush(self) -> None:
        """Tell the broker what was acknowledged."""
        self._settling.flush()

    def cancel(self) -> None:
        """Cancel the handlers: their deliveries are the broker's again."""
        for task in self._tasks:
            task.cancel()

    async def cancelled(self) -> None:
        """Cancel the handlers, and await a while that they end."""
        others = self._tasks - {asyncio.current_task()}
        for task in others:
            task.cancel()
        if others:
            await asyncio.wait(others, timeout=CLOSE_TIMEOUT)

    async def _handle(self, tag: int, message: Incoming) -> None:
        async def refuse() -> None:
            self._settling.give_back(tag, harmful=True)

        await guarded(self._handler, message, refuse)

    def _settled(self) -> None:
        if self._last:
            self.close_when_idle()

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._settled()


class Consumer:
    """A consumer with a channel, and so a prefetch, of its own: a queue that is gone holds up no other consumer."""

    def __init__(self, link: Link, declare: Declare, handler: Handler, prefetch: int) -> None:
        self._link = link
        self._declare = declare
        self._handler = handler
        self._prefetch = prefetch
        self._channel: Channel | None = None
        self._deliveries: Deliveries | None = None
        self._tag = ""
        self._restoring: asyncio.Task[None] | None = None
        self._cancelled = False
        self.queue = ""
        """The name of its queue, which for a private one changes with every reconnection."""

    async def start(self) -> None:
        """Attach for the first time, and from then on after every loss. Raises what the broker says."""
        channel = await self._attach()
        self._restoring = restoring(self._attach, channel, self.queue)

    @property
    def attached(self) -> bool:
        """Whether the broker has confirmed this consumer on a channel that is still open."""
        return not self._cancelled and self._channel is not None and self._channel.open

    async def cancel(self) -> None:
        """Take no more. What was delivered meanwhile is given back, what is being handled stays with its handler."""
        self._cancelled = True
        try:
            await self._stop_restoring()
        finally:
            channel, self._channel = self._channel, None
            if channel is not None:
                await self._detach(channel)

    async def _detach(self, channel: Channel) -> None:
        """Cancel the consumer on its channel; broken off, or where the broker did so itself, give the channel back."""
        if not channel.open or self._deliveries is None:
            channel.close()
            return
        try:
            await channel.ask(lambda answered: channel.raw.basic_cancel(self._tag, callback=answered))
        except (*AWAY, TimeoutError) as error:
            log.info("consumer_lost_before_cancel", queue=self.queue, error=str(error))
        except BaseException:
            channel.close()
            raise
        self._deliveries.close_when_idle()

    @property
    def finished(self) -> bool:
        """Whether it was cancelled, and its channel given back."""
        return self._cancelled and (self._deliveries is None or self._deliveries.closed)

    async def abandon(self) -> None:
        """The bus closes: tell what was acknowledged, end the handlers. The broker takes back whatever is unsettled."""
        await self._stop_restoring()
        self._channel = None
        if self._deliveries is not None:
            self._deliveries.flush()
            await self._deliveries.cancelled()
            self._deliveries.flush()

    async def _stop_restoring(self) -> None:
        if self._restoring is not None:
            await end(self._restoring)

    async def _attach(self) -> Channel:
        channel = await self._link.channel()
        try:
            await channel.ask(lambda done: channel.raw.basic_qos(prefetch_count=self._prefetch, callback=done))
            self.queue = await self._declare(channel)
            channel.raw.add_on_cancel_callback(lambda frame: channel.end(ConsumerCancelled(str(frame))))
            deliveries = Deliveries(channel, self._handler, self._prefetch)
            begun: list[str] = []

            def begin(done: Callable[[object], None]) -> None:
                begun.append(channel.raw.basic_consume(self.queue, deliveries.take, callback=done))

            await channel.ask(begin)
        except BaseException:
            channel.close()
            raise
        self._tag, self._deliveries, self._channel = begun[0], deliveries, channel
        return channel
