"""Declares the topology of `contracts.topology` on RabbitMQ 3.10 to 4.x, and again whenever a part of it is missing."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

import structlog
from aio_pika.abc import AbstractChannel, AbstractQueue
from aio_pika.exceptions import ChannelPreconditionFailed
from aiormq.exceptions import ChannelAccessRefused

from contracts.topology import EXCHANGES, PRIVATE_QUEUE_LENGTH, QUEUES, Exchange, Queue, QueueKind
from infra.bus.port import BusUnavailable
from infra.bus.rabbitmq.calls import BROKER_ERRORS, call_timeout
from infra.bus.rabbitmq.declarations import (
    DECLARE_TIMEOUT,
    FORMER_ARGUMENTS,
    QueueMismatch,
    arguments,
    declare_exchange,
    declare_with,
    first_absent,
    look_up,
)
from infra.log_limit import LogLimit

MIN_RESTORE_INTERVAL = 1.0
"""Seconds between two declarations, if messages cannot be routed although the topology is declared."""
CANCELLATION_TIME = 1.0
"""Seconds."""

log = structlog.get_logger(__name__)
OpenChannel = Callable[[], AbstractAsyncContextManager[AbstractChannel]]
"""Opens a channel during a block."""


class Topology:
    """The exchanges, queues and bindings of one broker; declaring what exists changes nothing."""

    def __init__(self, channel: OpenChannel) -> None:
        self._channel = channel
        self._lock = asyncio.Lock()
        self._declared_at = self._restored_at = 0.0
        self._log_limit = LogLimit()
        self._refused: set[str] = set()
        """What the account of this process may not declare; another process declares it."""
        self.outdated: set[str] = set()
        """Queues that have FORMER_ARGUMENTS."""
        self.problem: str | None = None
        """Why the last declaration failed."""

    async def declare(self) -> None:
        """Declare every exchange, queue and binding. Raises BusUnavailable if one exists with other arguments."""
        started = time.monotonic()
        items: deque[Exchange | Queue] = deque((*EXCHANGES, *QUEUES))
        while items:
            async with self._channel() as channel:
                await self._declare_until_refused(channel, items)
        await self._require_refused()
        self._declared_at, self.problem = started, None

    async def _require_refused(self) -> None:
        """Raise BusUnavailable if something is missing that this account may not declare."""
        absent = await self.missing() if self._refused else {}
        names = [name.replace(":", " ") for name in absent if name.partition(":")[2] in self._refused]
        if names:
            raise BusUnavailable(
                f"the {', the '.join(names)} must be declared, which this account may not do: "
                "run `treadle topology apply` with the account of control, or start control"
            )

    async def restore(self, since: float = 0.0) -> bool:
        """Declare it again, unless that was done after `since`, a time of the monotonic clock.

        Returns whether it has been declared after `since`; if not, it failed, or it did not help a moment ago.
        """
        async with self._lock:
            if since and self._declared_at >= since:
                return True
            if since and time.monotonic() - self._restored_at < MIN_RESTORE_INTERVAL:
                return False
            self._restored_at = time.monotonic() if since else self._restored_at
            try:
                async with call_timeout():
                    await self._wait_for_cancellations()
                    await self.declare()
            except (*BROKER_ERRORS, BusUnavailable) as error:
                self.problem = str(error) or type(error).__name__
                if self._log_limit.skipped("failed") is not None:
                    log.warning("topology_not_restored", error=self.problem)
                return False
            return True

    async def _wait_for_cancellations(self) -> None:
        """If a quorum queue was deleted, wait until the broker has cancelled its consumers.

        If the queue is declared again before, RabbitMQ 3.10 forgets its consumers without cancelling them.
        """
        missing = await self.missing()
        if any(f"queue:{queue.name}" in missing for queue in QUEUES if queue.kind is QueueKind.QUORUM):
            await asyncio.sleep(CANCELLATION_TIME)

    async def missing(self) -> dict[str, str]:
        """The exchanges and queues that do not exist now, each with a sentence. A binding cannot be looked up."""
        items: deque[Exchange | Queue] = deque((*EXCHANGES, *QUEUES))
        missing = {}
        while items:
            async with self._channel() as channel:
                absent = await first_absent(channel, items)
            if absent is not None:
                kind = "exchange" if isinstance(absent, Exchange) else "queue"
                missing[f"{kind}:{absent.name}"] = f"the {kind} does not exist; it is being declared again"
        return missing

    async def queue(self, channel: AbstractChannel, queue: Queue) -> AbstractQueue:
        """Declare one shared queue and its exchange, in case the broker lost its data before a reconnection."""
        if queue.name in self._refused:
            return await look_up(channel, queue.name)
        try:
            if queue.exchange not in self._refused:
                await declare_exchange(channel, queue.exchange)
            return await self._declare_queue(channel, queue)
        except ChannelAccessRefused:  # the account was restricted meanwhile; the consumer tries again
            self._refused |= {queue.exchange, queue.name}
            raise

    async def private_queue(self, channel: AbstractChannel, exchange: str, binding: str) -> AbstractQueue:
        """Declare a bounded queue that is deleted with its consumer; the broker generates a new name each time.

        With a fixed name, the queue would stay locked until the broker notices that the old connection is lost.
        """
        queue = await channel.declare_queue(
            "",
            exclusive=True,
            auto_delete=True,
            arguments={"x-queue-type": "classic", "x-max-length": PRIVATE_QUEUE_LENGTH, "x-overflow": "drop-head"},
            timeout=DECLARE_TIMEOUT,
        )
        await self.bind_private(channel, queue.name, exchange, binding)
        return queue

    async def bind_private(self, channel: AbstractChannel, queue: str, exchange: str, binding: str) -> None:
        """Declare the exchange, and bind a private queue to it; a binding that exists stays as it is."""
        if exchange not in self._refused:
            try:
                await declare_exchange(channel, exchange)
            except ChannelAccessRefused:  # as above
                self._refused.add(exchange)
                raise
        underlay = await channel.get_underlay_channel()
        await underlay.queue_bind(queue, exchange, binding, timeout=DECLARE_TIMEOUT)

    async def replace_outdated(self) -> None:
        """Replace the queues that an earlier version declared, if they are empty. Raises BusUnavailable."""
        for name in sorted(self.outdated):
            async with self._channel() as channel:
                if (await look_up(channel, name)).declaration_result.message_count == 0:
                    await channel.queue_delete(name)
                    self.outdated.discard(name)
        await self.declare()

    async def _declare_until_refused(self, channel: AbstractChannel, items: deque[Exchange | Queue]) -> None:
        """Declare the items and remove them from `items`; return early if the broker has closed the channel."""
        while items:
            item = items[0]
            try:
                await self._declare(channel, item)
            except ChannelAccessRefused:
                self._refused.add(item.name)
                log.info("declaration_not_permitted", name=item.name)
                items.popleft()
                return
            except QueueMismatch:
                if not isinstance(item, Queue) or not await self._accept_former(item):
                    raise
                return
            items.popleft()

    async def _declare(self, channel: AbstractChannel, item: Exchange | Queue) -> None:
        if item.name in self._refused:
            return
        if isinstance(item, Exchange):
            await declare_exchange(channel, item.name)
        else:
            await self._declare_queue(channel, item)

    async def _declare_queue(self, channel: AbstractChannel, queue: Queue) -> AbstractQueue:
        current = FORMER_ARGUMENTS[queue.name] if queue.name in self.outdated else arguments(queue)
        declared = await declare_with(channel, queue, current)
        await declared.bind(queue.exchange, queue.binding, timeout=DECLARE_TIMEOUT)
        return declared

    async def _accept_former(self, queue: Queue) -> bool:
        """Whether a queue has the arguments of an earlier version. One without value is deleted, if no one uses it."""
        if queue.name not in FORMER_ARGUMENTS or queue.name in self.outdated:
            self.outdated.discard(queue.name)
            return False
        try:
            async with self._channel() as channel:
                await declare_with(channel, queue, FORMER_ARGUMENTS[queue.name])
                if queue.kind is QueueKind.CLASSIC:
                    await channel.queue_delete(queue.name, if_unused=True)
                    return True
        except QueueMismatch:
            return False
        except ChannelPreconditionFailed:
            log.info("outdated_queue_in_use", queue=queue.name)
        self.outdated.add(queue.name)
        log.warning("queue_is_outdated", queue=queue.name, fix="empty it, then run `treadle topology apply`")
        return True
