"""A queue and its consumers within one process, with the RabbitMQ behaviour that Treadle relies on."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager
from contextvars import copy_context
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from infra.bus.handling import Delivered
from infra.bus.port import IncomingMessage, OutgoingMessage

Settle = Callable[[], Awaitable[None]]
"""Acknowledges or requeues one delivery."""
HandleDelivery = Callable[[Delivered], Coroutine[Any, Any, None]]


@dataclass(slots=True)
class QueuedMessage:
    """A message in a queue; `expires_at` is a time of the event loop's clock, in seconds."""

    message: OutgoingMessage
    expires_at: float | None
    published_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    requeue_count: int = 0

    def incoming(self, ack: Settle, requeue: Settle) -> IncomingMessage:
        """The message as its handler receives it."""
        message = self.message
        return IncomingMessage(
            body=message.body,
            message_id=message.message_id or None,
            routing_key=message.routing_key,
            headers=dict(message.headers),
            correlation_id=message.correlation_id,
            reply_to=message.reply_to,
            redelivered=self.requeue_count > 0,
            ack=ack,
            requeue=requeue,
            published_at=self.published_at,
        )


async def _requeue_later() -> None:
    """Do nothing: a browsed message is requeued at the end of the block, together with the others."""


class InProcessQueue:
    """Delivers the ready messages in order, to its consumers in rotation.

    `dead_letter` is called with a message and the reason if the message expires or is requeued more than
    `delivery_limit` times; `on_unused` is called when the last consumer is removed.
    """

    def __init__(
        self,
        name: str,
        dead_letter: Callable[[QueuedMessage, str], None],
        *,
        delivery_limit: int | None = None,
        max_length: int | None = None,
        expires: float | None = None,
        listens_to: str | None = None,
        on_unused: Callable[[], None] | None = None,
    ) -> None:
        self.name = name
        self._dead_letter = dead_letter
        self._on_unused = on_unused
        self._delivery_limit = delivery_limit
        self._expires = expires
        self.listens_to = listens_to
        """The exchange of a private queue, None for a shared one."""
        self._ready: deque[QueuedMessage] = deque(maxlen=max_length)
        self._consumers: deque[InProcessConsumer] = deque()

    def put(self, queued: QueuedMessage) -> None:
        """Add a message at the end; a full queue drops its oldest message."""
        if self._expires is not None:
            latest = asyncio.get_running_loop().time() + self._expires
            queued.expires_at = latest if queued.expires_at is None else min(queued.expires_at, latest)
        self._ready.append(queued)
        self.deliver_ready()

    def requeue(self, messages: list[QueuedMessage]) -> None:
        """Put messages back at the front of the queue, in their order."""
        for queued in reversed(messages):
            queued.requeue_count += 1
            if self._delivery_limit is not None and queued.requeue_count > self._delivery_limit:
                self._dead_letter(queued, "delivery_limit")
            else:
                self._ready.appendleft(queued)
        self.deliver_ready()

    def discard(self, queued: QueuedMessage) -> None:
        """Give up a message: dead-letter it, or drop it if this queue has no dead letters."""
        self._dead_letter(queued, "rejected")

    @contextmanager
    def browse(self, limit: int) -> Iterator[list[IncomingMessage]]:
        """Take the first `limit` messages out of the queue during the block, then requeue those not acknowledged."""
        self._expire()
        browsed = dict(enumerate(self._ready.popleft() for _ in range(min(limit, len(self._ready)))))

        def incoming(index: int) -> IncomingMessage:
            async def ack() -> None:
                browsed.pop(index, None)

            return browsed[index].incoming(ack, _requeue_later)

        try:
            yield [incoming(index) for index in list(browsed)]
        finally:
            self.requeue(list(browsed.values()))

    def add(self, consumer: InProcessConsumer) -> None:
        """Start to deliver messages to a consumer."""
        self._consumers.append(consumer)
        self.deliver_ready()

    def remove(self, consumer: InProcessConsumer) -> None:
        """Stop delivering messages to a consumer."""
        if consumer in self._consumers:
            self._consumers.remove(consumer)
            if not self._consumers and self._on_unused is not None:
                self._on_unused()

    def purge(self) -> None:
        """Delete the ready messages."""
        self._ready.clear()

    def depth(self) -> int:
        """The number of messages that are ready and have not expired."""
        self._expire()
        return len(self._ready)

    def consumers(self) -> int:
        """The number of consumers."""
        return len(self._consumers)

    def deliver_ready(self) -> None:
        """Deliver ready messages while a consumer has capacity."""
        self._expire()
        while self._ready and (consumer := self._next_consumer()) is not None:
            consumer.deliver(self._ready.popleft())
            self._expire()

    def _next_consumer(self) -> InProcessConsumer | None:
        for _ in range(len(self._consumers)):
            self._consumers.rotate(-1)
            if self._consumers[-1].has_capacity:
                return self._consumers[-1]
        return None

    def _expire(self) -> None:
        """Remove the expired messages at the front; the others are checked when they reach the front."""
        now = asyncio.get_running_loop().time()
        while self._ready and (expires_at := self._ready[0].expires_at) is not None and expires_at <= now:
            self._dead_letter(self._ready.popleft(), "expired")


class InProcessDelivery:
    """A delivery to a consumer."""

    def __init__(self, consumer: InProcessConsumer, tag: int, queued: QueuedMessage) -> None:
        self._consumer = consumer
        self._tag = tag
        self._queued = queued

    @property
    def settled(self) -> bool:
        """Whether it is acknowledged or requeued."""
        return not self._consumer.holds(self._tag)

    def incoming(self) -> IncomingMessage:
        """The message as the port defines it."""
        return self._queued.incoming(self._ack, self._requeue)

    async def discard(self) -> None:
        """Give the message up."""
        self._consumer.settle(self._tag, self._consumer.source.discard)

    async def _ack(self) -> None:
        self._consumer.settle(self._tag, lambda _: None)

    async def _requeue(self) -> None:
        self._consumer.settle(self._tag, lambda queued: self._consumer.source.requeue([queued]))


class InProcessConsumer:
    """A consumer, and its subscription, with at most `prefetch` unsettled messages.

    Handlers run in a copy of the context that created the consumer, so they do not inherit the log context of a
    publisher.
    """

    def __init__(self, queue: InProcessQueue, handle: HandleDelivery, prefetch: int) -> None:
        self._context = copy_context()
        self.source = queue
        self._handle = handle
        self._prefetch = prefetch
        self._unsettled: dict[int, QueuedMessage] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._delivery_tag = 0
        self.attached = True

    @property
    def queue(self) -> str:
        """The name of its queue."""
        return self.source.name

    @property
    def has_capacity(self) -> bool:
        """Whether it can receive another message."""
        return len(self._unsettled) < self._prefetch

    @property
    def closed(self) -> bool:
        """Whether it is cancelled and has no unsettled message and no running handler."""
        return not self.attached and not self._unsettled and not self._tasks

    async def cancel(self) -> None:
        """Receive no more messages; the handlers that run are not cancelled."""
        self._detach()

    async def lose(self) -> None:
        """Simulate a lost connection: requeue the unsettled messages and cancel the handlers."""
        self.sever()
        tasks = [task for task in self._tasks if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def sever(self) -> None:
        """Do the broker's part of a lost connection: remove the consumer and requeue its unsettled messages."""
        self._detach()
        unsettled, self._unsettled = list(self._unsettled.values()), {}
        self.source.requeue(unsettled)

    def holds(self, tag: int) -> bool:
        """Whether the delivery with this tag is unsettled."""
        return tag in self._unsettled

    def settle(self, tag: int, with_message: Callable[[QueuedMessage], None]) -> None:
        """Settle a delivery, unless it is settled; then deliver the next messages."""
        queued = self._unsettled.pop(tag, None)
        if queued is not None:
            with_message(queued)
            self.source.deliver_ready()

    def deliver(self, queued: QueuedMessage) -> None:
        """Run the handler for a message, in a task of its own."""
        self._delivery_tag += 1
        self._unsettled[self._delivery_tag] = queued
        handling = self._handle(InProcessDelivery(self, self._delivery_tag, queued))
        task = asyncio.get_running_loop().create_task(handling, context=self._context.copy())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _detach(self) -> None:
        self.attached = False
        self.source.remove(self)
