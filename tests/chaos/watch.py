"""The run as its database tells it: for the progress bar, and for those who wait for something to come true."""

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

LOOK = 0.5
BACKLOG = 400
"""Unfinished tasks above which no further fault begins: chaos is to meet tasks at work, not a queue."""
STUCK = 60.0
"""Seconds without any change after the last fault, after which what has not ended never will."""


@dataclass(slots=True)
class Seen:
    """What the database said when it was last asked."""

    counts: Counter[str] = field(default_factory=Counter)
    suspended: list[UUID] = field(default_factory=list)
    outbox: int = 0
    changed: float = field(default_factory=time.monotonic)

    @property
    def ended(self) -> int:
        """Tasks that have ended."""
        return sum(self.counts[status] for status in TERMINAL)

    @property
    def unfinished(self) -> int:
        """Tasks under way; one that was never started is not."""
        return self.counts.total() - self.ended - self.counts[TaskStatus.PENDING]


class Watch:
    """Looks at the database while the run lasts, and waits for what it finds there."""

    def __init__(self, database: Database, load: Load) -> None:
        self._database = database
        self._load = load
        self._seen = Seen()

    async def run(self, progress: Progress, chaos: Chaos) -> None:
        """Look again and again; a database that is away is no news."""
        while True:
            with suppress(DatabaseUnavailable):
                self._seen = await self._look()
            progress.show(self._seen.ended, chaos.done)
            await asyncio.sleep(LOOK)

    async def until_few(self) -> None:
        """Wait until few enough tasks are at work."""
        while self._seen.unfinished > BACKLOG:  # noqa: ASYNC110 - the database tells nobody
            await asyncio.sleep(LOOK)

    async def until_quiet(self) -> None:
        """Wait until every task has ended and the outbox is empty, or nothing moves any more."""
        since = time.monotonic()
        while not self._quiet and time.monotonic() - max(since, self._seen.changed) < STUCK:
            for task_id in self._seen.suspended:
                await self._load.resume(task_id)
            await asyncio.sleep(2 * LOOK)

    @property
    def _quiet(self) -> bool:
        acknowledged = sum(submission.acknowledged for submission in self._load.submissions)
        return not self._seen.unfinished and not self._seen.outbox and self._seen.counts.total() >= acknowledged

    async def _look(self) -> Seen:
        rows = await self._database.fetch("SELECT status, count(*) AS tasks FROM tasks GROUP BY status")
        suspended = await self._database.fetch("SELECT task_id FROM tasks WHERE status = 'SUSPENDED'")
        (waiting,) = await self._database.fetch("SELECT count(*) AS rows FROM outbox")
        counts = Counter({row["status"]: row["tasks"] for row in rows})
        changed = time.monotonic() if counts != self._seen.counts else self._seen.changed
        return Seen(counts, [row["task_id"] for row in suspended], waiting["rows"], changed)
