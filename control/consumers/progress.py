"""What is going on right now: the latest progress of each task, and a wake-up for whoever watches one."""

from __future__ import annotations

import asyncio
from collections import OrderedDict, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import UUID

import structlog

from contracts.errors import UndecodableMessage
from contracts.progress import PhaseProgress
from contracts.topology import PROGRESS
from contracts.wire import decode
from infra.bus.port import Bus, Incoming, Subscription

CAPACITY = 10_000
"""Tasks whose latest progress is remembered; the one that was silent longest is forgotten first."""

log = structlog.get_logger(__name__)


class Watch:
    """One watcher of one task. A wake-up between two waits is not lost."""

    def __init__(self) -> None:
        self._news = asyncio.Event()
        self.closed = False
        """Whether the process is shutting down, and the watcher should end."""

    def wake(self, *, close: bool = False) -> None:
        """There is news."""
        self.closed = self.closed or close
        self._news.set()

    async def changed(self, timeout: float) -> bool:
        """Wait for news since the last call, at most `timeout` seconds; whether there was some."""
        try:
            async with asyncio.timeout(timeout):
                await self._news.wait()
        except TimeoutError:
            return False
        self._news.clear()
        return True


class Live:
    """Fed by the progress exchange and by the applier; nothing here is the truth, and losing it is harmless."""

    def __init__(self, capacity: int = CAPACITY) -> None:
        self._capacity = capacity
        self._latest: OrderedDict[UUID, PhaseProgress] = OrderedDict()
        self._watches: defaultdict[UUID, set[Watch]] = defaultdict(set)

    async def start(self, bus: Bus) -> Subscription:
        """Listen to the progress of every task."""
        return await bus.listen(PROGRESS.name, "#", self._receive)

    def report(self, progress: PhaseProgress) -> None:
        """Remember it, if it is newer than what is known."""
        task_id = progress.key.task_id
        known = self._latest.get(task_id)
        if known is not None and _is_older(progress, known):
            return
        self._latest[task_id] = progress
        self._latest.move_to_end(task_id)
        while len(self._latest) > self._capacity:
            self._latest.popitem(last=False)
        self.touch(task_id)

    def latest(self, task_id: UUID) -> PhaseProgress | None:
        """The newest progress heard of, perhaps of an attempt that has ended."""
        return self._latest.get(task_id)

    def touch(self, task_id: UUID) -> None:
        """The task changed: wake its watchers."""
        for watch in self._watches.get(task_id, ()):
            watch.wake()

    @contextmanager
    def watch(self, task_id: UUID) -> Iterator[Watch]:
        """Hear of every change of one task inside the `with` block."""
        watch = Watch()
        self._watches[task_id].add(watch)
        try:
            yield watch
        finally:
            self._watches[task_id].discard(watch)
            if not self._watches[task_id]:
                del self._watches[task_id]

    def close(self) -> None:
        """End every watcher, so that open streams do not hold up a shutdown."""
        for watches in self._watches.values():
            for watch in watches:
                watch.wake(close=True)

    async def _receive(self, message: Incoming) -> None:
        """Take one message; what cannot be read is dropped, for it is progress only."""
        try:
            self.report(decode(message.body, PhaseProgress))
        except UndecodableMessage as error:
            log.debug("progress_dropped", reason=error.reason)


def _is_older(new: PhaseProgress, known: PhaseProgress) -> bool:
    """Within one phase of one iteration a later attempt, then a later step, is newer."""
    if (new.key.iteration, new.key.phase) != (known.key.iteration, known.key.phase):
        return False
    return (new.key.attempt, new.sequence) < (known.key.attempt, known.sequence)
