"""The state of a run, read from its database: for the progress bar, and to wait for conditions."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from uuid import UUID

from contracts.tasks import TaskStatus
from infra.database import Database, DatabaseUnavailable
from tests.chaos.checker import TERMINAL
from tests.chaos.faults import Chaos
from tests.chaos.load import Load
from tests.chaos.progress import Progress

POLL_INTERVAL = 0.5
"""Seconds."""
MAX_UNFINISHED = 400
"""Unfinished tasks above which no further fault begins, so that the faults meet running tasks and not a long queue."""
STALL_TIMEOUT = 60.0
"""Seconds without a change after the last fault, after which the unfinished tasks count as stuck."""


@dataclass(slots=True)
class Snapshot:
    """The state of the run at the last query."""

    counts: Counter[str] = field(default_factory=Counter)
    suspended: list[UUID] = field(default_factory=list)
    outbox: int = 0
    changed_at: float = field(default_factory=time.monotonic)
    """When the counts last changed, by the monotonic clock in seconds."""

    @property
    def ended(self) -> int:
        """The number of ended tasks."""
        return sum(self.counts[status] for status in TERMINAL)

    @property
    def unfinished(self) -> int:
        """The number of tasks that are started and have not ended."""
        return self.counts.total() - self.ended - self.counts[TaskStatus.PENDING]


class Watch:
    """Polls the database during a run, and waits for conditions."""

    def __init__(self, database: Database, load: Load) -> None:
        self._database = database
        self._load = load
        self._snapshot = Snapshot()

    async def run(self, progress: Progress, chaos: Chaos) -> None:
        """Poll and show the progress without end, also while the database is away."""
        while True:
            with suppress(DatabaseUnavailable):
                self._snapshot = await self._query()
            progress.show(self._snapshot.ended, chaos.done)
            await asyncio.sleep(POLL_INTERVAL)

    async def wait_for_capacity(self) -> None:
        """Wait until at most MAX_UNFINISHED tasks are unfinished."""
        while self._snapshot.unfinished > MAX_UNFINISHED:  # noqa: ASYNC110 - the database sends no notification
            await asyncio.sleep(POLL_INTERVAL)

    async def wait_until_finished(self) -> None:
        """Resume suspended tasks until all tasks have ended and the outbox is empty, or nothing changes any more."""
        since = time.monotonic()
        while not self._finished and time.monotonic() - max(since, self._snapshot.changed_at) < STALL_TIMEOUT:
            for task_id in self._snapshot.suspended:
                await self._load.resume(task_id)
            await asyncio.sleep(2 * POLL_INTERVAL)

    @property
    def _finished(self) -> bool:
        acknowledged = sum(submission.acknowledged for submission in self._load.submissions)
        return (
            not self._snapshot.unfinished
            and not self._snapshot.outbox
            and self._snapshot.counts.total() >= acknowledged
        )

    async def _query(self) -> Snapshot:
        rows = await self._database.fetch("SELECT status, count(*) AS tasks FROM tasks GROUP BY status")
        suspended = await self._database.fetch("SELECT task_id FROM tasks WHERE status = 'SUSPENDED'")
        (outbox,) = await self._database.fetch("SELECT count(*) AS rows FROM outbox")
        counts = Counter({row["status"]: row["tasks"] for row in rows})
        changed_at = time.monotonic() if counts != self._snapshot.counts else self._snapshot.changed_at
        return Snapshot(counts, [row["task_id"] for row in suspended], outbox["rows"], changed_at)
