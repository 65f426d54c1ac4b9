"""Stores the latest progress of each task, and wakes the watchers of a task when it changes."""

from __future__ import annotations

import asyncio
from collections import OrderedDict, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar
from uuid import UUID

from contracts.progress import PhaseProgress
from contracts.tasks import AttemptKey
from contracts.topology import PROGRESS
from contracts.wire import decode
from control.store.values import Change
from infra.bus.port import Bus, IncomingMessage, Subscription

CAPACITY = 10_000
"""Tasks whose latest progress is stored; the task with the oldest update is dropped first."""
MAX_SENDERS = 8
"""Senders of one task whose latest progress is stored: progress can be forged, so the newest may be false."""
REORDERED = 100
"""A report whose sequence number is lower by less than this is late; after a larger step back, counting began again."""

K = TypeVar("K")
V = TypeVar("V")
Sender = tuple[AttemptKey, str]
"""An attempt and the id of a worker."""


class Watcher:
    """One watcher of one task; a wake-up between two calls of `changed` is not lost."""

    def __init__(self) -> None:
        self._change = asyncio.Event()
        self.closed = False
        """Whether the process is shutting down, so that the watcher must end."""

    def wake(self, *, close: bool = False) -> None:
        """Wake the watcher; with `close`, it then ends."""
        self.closed = self.closed or close
        self._change.set()

    async def changed(self, timeout: float) -> bool:
        """Wait at most `timeout` seconds for a change since the last call; return whether there was one."""
        try:
            async with asyncio.timeout(timeout):
                await self._change.wait()
        except TimeoutError:
            return False
        self._change.clear()
        return True


class ProgressHub:
    """Receives progress from the bus and changes from the applier; it is a cache, so a loss is harmless."""

    def __init__(self, capacity: int = CAPACITY) -> None:
        self._capacity = capacity
        self._latest: OrderedDict[UUID, OrderedDict[Sender, PhaseProgress]] = OrderedDict()
        self._watches: defaultdict[UUID, set[Watcher]] = defaultdict(set)

    async def start(self, bus: Bus) -> Subscription:
        """Subscribe to the progress of every task."""
        return await bus.listen(PROGRESS.name, "#", self._receive)

    def report(self, progress: PhaseProgress) -> None:
        """Store `progress` and wake the watchers, unless newer progress of the same sender is stored."""
        task_id, sender = progress.key.task_id, (progress.key, progress.worker_id)
        of_task = self._latest.setdefault(task_id, OrderedDict())
        existing = of_task.get(sender)
        if existing is not None and 0 < existing.sequence - progress.sequence < REORDERED:
            return
        of_task[sender] = progress
        _keep_newest(of_task, sender, MAX_SENDERS)
        _keep_newest(self._latest, task_id, self._capacity)
        self.notify(task_id)

    def latest(self, key: AttemptKey, worker_id: str) -> PhaseProgress | None:
        """The newest progress of an attempt that this worker has sent; the attempt may have ended."""
        of_task = self._latest.get(key.task_id)
        return of_task.get((key, worker_id)) if of_task else None

    def on_change(self, change: Change, _: object) -> None:
        """Wake the watchers of the task that changed; a listener for the applier."""
        self.notify(change.after.task_id)

    def notify(self, task_id: UUID) -> None:
        """Wake the watchers of a task that changed."""
        for watch in self._watches.get(task_id, ()):
            watch.wake()

    @contextmanager
    def watch(self, task_id: UUID) -> Iterator[Watcher]:
        """Watch the changes of one task inside the `with` block."""
        watch = Watcher()
        self._watches[task_id].add(watch)
        try:
            yield watch
        finally:
            self._watches[task_id].discard(watch)
            if not self._watches[task_id]:
                del self._watches[task_id]

    def close(self) -> None:
        """End every watcher, because open streams would delay a shutdown."""
        for watches in self._watches.values():
            for watch in watches:
                watch.wake(close=True)

    async def _receive(self, message: IncomingMessage) -> None:
        """Store the progress in a message. Raises UndecodableMessage."""
        self.report(decode(message.body, PhaseProgress))


def _keep_newest(entries: OrderedDict[K, V], updated: K, limit: int) -> None:
    """Move an entry to the end, and drop the first ones above the limit."""
    entries.move_to_end(updated)
    while len(entries) > limit:
        entries.popitem(last=False)
