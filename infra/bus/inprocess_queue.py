"""A queue and its consumers within one process: what RabbitMQ's do, as far as Treadle relies on it."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from contextvars import copy_context
from dataclasses import dataclass, field
from datetime import UTC, datetime

from infra.bus.handling import guarded
from infra.bus.port import Handler, Incoming, Outgoing

Settle = Callable[[], Awaitable[None]]


@dataclass(slots=True)
class Letter:
    """A message in a queue. `expires_at` is by the event loop's clock."""

    message: Outgoing
    expires_at: float | None
    published_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    returned: int = 0

    def incoming(self, ack: Settle, requeue: Settle) -> Incoming:
        """What a handler gets of it."""
        message = self.message
        return Incoming(
            body=message.body,
            message_id=message.message_id or None,
            routing_key=message.routing_key,
            headers=dict(message.headers),
            correlation_id=message.correlation_id,
            reply_to=message.reply_to,
            redelivered=self.returned > 0,
            ack=ack,
            requeue=requeue,
            published_at=self.published_at,
        )


async def _wait() -> None:
    """A letter that is browsed goes back at the end, with the others."""


class MemoryQueue:
    """Ready letters in order, and consumers who take turns.

    A letter that expires, or that is returned more than `limit` times, goes to `bury` with the reason.
    `unused` is called when the last consumer leaves.
    """

    def __init__(
        self,
        name: str,
        bury: Callable[[Letter, str], None],
        *,
        limit: int | None = None,
        longest: int | None = None,
        unused: Callable[[], None] | None = None,
    ) -> None:
        self.name = name
        self._bury = bury
        self._unused = unused
        self._limit = limit
        self._ready: deque[Letter] = deque(maxlen=longest)
        self._consumers: deque[MemoryConsumer] = deque()

    def put(self, letter: Letter) -> None:
        """Add at the end; a full queue drops its oldest."""
        self._ready.append(letter)
        self.pump()

    def put_back(self, letters: list[Letter]) -> None:
        """Return letters to where they were: the front, in their order."""
        for letter in reversed(letters):
            letter.returned += 1
            if self._limit is not None and letter.returned > self._limit:
                self._bury(letter, "delivery_limit")
            else:
                self._ready.appendleft(letter)
        self.pump()

    @contextmanager
    def browse(self, limit: int) -> Iterator[list[Incoming]]:
        """The first `limit` letters, out of the queue for the length of the block; back go those not acked."""
        self._expire()
        held = dict(enumerate(self._ready.popleft() for _ in range(min(limit, len(self._ready)))))

        def incoming(place: int) -> Incoming:
            async def ack() -> None:
                held.pop(place, None)

            return held[place].incoming(ack, _wait)

        try:
            yield [incoming(place) for place in list(held)]
        finally:
            self.put_back(list(held.values()))

    def add(self, consumer: MemoryConsumer) -> None:
        """Let a consumer take its turns from now on."""
        self._consumers.append(consumer)
        self.pump()

    def remove(self, consumer: MemoryConsumer) -> None:
        """Give a consumer no more."""
        if consumer in self._consumers:
            self._consumers.remove(consumer)
            if not self._consumers and self._unused is not None:
                self._unused()

    def purge(self) -> None:
        """Forget what is ready."""
        self._ready.clear()

    def depth(self) -> int:
        """Letters that are ready and have not expired."""
        self._expire()
        return len(self._ready)

    def pump(self) -> None:
        """Hand out ready letters while a consumer has room."""
        self._expire()
        while self._ready and (consumer := self._next_consumer()) is not None:
            consumer.take(self._ready.popleft())
            self._expire()

    def _next_consumer(self) -> MemoryConsumer | None:
        for _ in range(len(self._consumers)):
            self._consumers.rotate(-1)
            if self._consumers[-1].has_room:
                return self._consumers[-1]
        return None

    def _expire(self) -> None:
        """Drop what has expired at the front; further back it is looked at when it gets there."""
        now = asyncio.get_running_loop().time()
        while self._ready and (end := self._ready[0].expires_at) is not None and end <= now:
            self._bury(self._ready.popleft(), "expired")


class MemoryConsumer:
    """A consumer with at most `prefetch` letters unsettled. It is the subscription that its caller holds.

    Handlers run in the context of whoever consumes: what a publisher has bound there (to its logs) is not theirs.
    """

    def __init__(self, queue: MemoryQueue, handler: Handler, prefetch: int) -> None:
        self._context = copy_context()
        self._queue = queue
        self._handler = handler
        self._prefetch = prefetch
        self._unsettled: dict[int, Letter] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._delivery_tag = 0
        self.attached = True

    @property
    def queue(self) -> str:
        """The name of its queue."""
        return self._queue.name

    @property
    def has_room(self) -> bool:
        """Whether it may take another letter."""
        return len(self._unsettled) < self._prefetch

    @property
    def closed(self) -> bool:
        """Whether it is cancelled and all that it took is settled."""
        return not self.attached and not self._unsettled and not self._tasks

    async def cancel(self) -> None:
        """Take no more; what was taken stays with its handlers."""
        self._detach()

    async def lose(self) -> None:
        """End as by a lost connection: unsettled letters go back, handlers are cancelled."""
        self.sever()
        tasks = [task for task in self._tasks if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def sever(self) -> None:
        """What the broker does about a lost connection: no more letters, and those not settled go back."""
        self._detach()
        letters, self._unsettled = list(self._unsettled.values()), {}
        self._queue.put_back(letters)

    def take(self, letter: Letter) -> None:
        """Hand a letter to the handler, in a task of its own."""
        self._delivery_tag += 1
        self._unsettled[self._delivery_tag] = letter
        handling = self._handle(self._delivery_tag, letter)
        task = asyncio.get_running_loop().create_task(handling, context=self._context.copy())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _detach(self) -> None:
        self.attached = False
        self._queue.remove(self)

    async def _handle(self, tag: int, letter: Letter) -> None:
        async def ack() -> None:
            if self._unsettled.pop(tag, None) is not None:
                self._queue.pump()

        async def requeue() -> None:
            if self._unsettled.pop(tag, None) is not None:
                self._queue.put_back([letter])

        await guarded(self._handler, lambda: letter.incoming(ack, requeue), requeue)
