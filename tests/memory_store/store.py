"""The store in memory, with the semantics of the PostgreSQL adapter and a clock that a test can replace."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import zip_longest
from uuid import UUID

from contracts.tasks import AttemptKey, ModelSource, TaskStatus
from control.store.port import TaskNotFound
from control.store.values import (
    AttemptClock,
    AttemptRecord,
    Dataset,
    HistoryRow,
    OutboxRow,
    Standstill,
    StoredTask,
    TaskClock,
    TaskFilter,
)
from tests.memory_store.changes import MemoryChanges
from tests.memory_store.leases import MemoryLeases
from tests.memory_store.retention import MemoryRetention
from tests.memory_store.tables import TaskRow, stored_task


class MemoryStore(MemoryChanges, MemoryLeases, MemoryRetention):
    """A store for tests and simulations; two stores with the same `tables` act as two control processes."""

    async def lock_outbox(self, limit: int, lock_seconds: float) -> list[OutboxRow]:
        """Lock unlocked due rows for `lock_seconds` seconds and return them."""
        now = self._clock()
        unlocked = [entry for entry in self.tables.outbox.values() if entry.locked_until <= now]
        locked = sorted(unlocked, key=lambda entry: (entry.locked_until, entry.row.id))[:limit]
        for entry in locked:
            entry.locked_until = now + timedelta(seconds=lock_seconds)
        return [entry.row for entry in locked]

    async def delete_outbox(self, ids: Sequence[int]) -> None:
        """Delete rows that the broker has confirmed."""
        for row_id in ids:
            self.tables.outbox.pop(row_id, None)

    async def outbox_depth(self) -> tuple[int, float]:
        """The number of rows, and the seconds since the first of them was due (0 if none is)."""
        now = self._clock()
        ages = [(now - entry.available_at).total_seconds() for entry in self.tables.outbox.values()]
        return len(ages), max(0.0, *ages) if ages else 0.0

    async def try_lead(self, role: str) -> bool:
        """Whether this store is the leader for `role`; it becomes the leader if no other store is."""
        return self.tables.leaders.setdefault(role, self) is self

    async def task(self, task_id: UUID) -> StoredTask:
        """One task. Raises TaskNotFound."""
        row = self.tables.tasks.get(task_id)
        if row is None:
            raise TaskNotFound(task_id)
        return stored_task(row)

    async def tasks(self, task_filter: TaskFilter, page: int, size: int) -> tuple[list[StoredTask], int]:
        """A page (from 1) of the matching tasks, newest first, and the number of all matching tasks."""
        found = [row for row in self.tables.tasks.values() if _matches(row, task_filter)]
        found.sort(key=lambda row: (row.created_at, row.task.task_id), reverse=True)
        return [stored_task(row) for row in found[(page - 1) * size : page * size]], len(found)

    async def attempts(
        self, *task_ids: UUID, page: int = 1, size: int | None = None, iteration: int | None = None
    ) -> list[AttemptRecord]:
        """A page (from 1) of the attempts of these tasks, or of an iteration of them, oldest first."""
        rows = [row for task_id in set(task_ids) for row in self.tables.attempts.get(task_id, {}).values()]
        found = [row.attempt for row in rows if iteration in (None, row.attempt.key.iteration)]
        ordered = sorted(found, key=lambda attempt: attempt.created_at)
        return ordered if size is None else ordered[(page - 1) * size : page * size]

    async def task_clock(self, task_id: UUID) -> TaskClock:
        """The times of a task's ended attempts and standstills."""
        attempts = [
            AttemptClock(each.due_at, each.claimed_at, each.ended_at, (each.event or {}).get("work_seconds"))
            for each in (row.attempt for row in self.tables.attempts.get(task_id, {}).values())
            if each.ended_at is not None
        ]
        applied = [row for row in self.tables.history if row.task_id == task_id and row.version is not None]
        standstills = [
            Standstill(row.status, row.at, after.at if after else None)
            for row, after in zip_longest(applied, applied[1:])
            if row.status in {TaskStatus.SUSPENDED, TaskStatus.FAILED}
        ]
        return TaskClock(tuple(sorted(attempts, key=lambda each: each.ended_at)), tuple(standstills))

    async def attempt(self, key: AttemptKey) -> AttemptRecord | None:
        """One attempt; None if there is none with this key."""
        row = self.tables.attempt(key)
        return row.attempt if row else None

    async def history(self, task_id: UUID, after: int = 0, limit: int = 1000) -> list[HistoryRow]:
        """History rows with an id above `after`, oldest first."""
        return [row for row in self.tables.history[after:] if row.task_id == task_id][:limit]

    async def counts(self) -> dict[TaskStatus, int]:
        """The number of tasks in each status, also if it is 0."""
        counts = Counter(row.task.status for row in self.tables.tasks.values())
        return {status: counts[status] for status in TaskStatus}

    async def add_dataset(self, dataset: Dataset) -> None:
        """Register a dataset; an id that exists is not changed."""
        self.tables.datasets.setdefault(dataset.dataset_id, replace(dataset, created_at=self._clock()))

    async def dataset(self, dataset_id: str) -> Dataset | None:
        """One dataset; None if there is none with this id."""
        return self.tables.datasets.get(dataset_id)

    async def find_datasets(self, dataset_ids: Sequence[str]) -> dict[str, Dataset]:
        """Those of these datasets that exist, by their ids."""
        return {name: self.tables.datasets[name] for name in dataset_ids if name in self.tables.datasets}

    async def datasets(self, user_id: int, page: int = 1, size: int = 1000) -> list[Dataset]:
        """A page (from 1) of a user's datasets, newest first."""
        found = [dataset for dataset in self.tables.datasets.values() if dataset.user_id == user_id]
        newest = sorted(found, key=lambda dataset: (dataset.created_at, dataset.dataset_id), reverse=True)
        return newest[(page - 1) * size : page * size]

    async def dataset_paths(self, after: str, limit: int) -> list[str]:
        """The prefixes of all users' datasets that sort after `after`, in order."""
        paths = sorted(dataset.storage_path for dataset in self.tables.datasets.values())
        return [path for path in paths if path > after][:limit]

    async def model(self, task_id: UUID, iteration: int | None) -> ModelSource | None:
        """The model of an iteration; without an iteration, of the best one, else of the newest one with a model."""
        if iteration is not None:
            return self.tables.models.get((task_id, iteration))
        row = self.tables.tasks.get(task_id)
        if row is None:
            return None
        if row.task.best is not None:
            return row.task.best.model
        newest = max((number for owner, number in self.tables.models if owner == task_id), default=0)
        return self.tables.models.get((task_id, newest))

    async def now(self) -> datetime:
        """The time of the clock."""
        return self._clock()

    async def close(self) -> None:
        """Release every leader role."""
        roles = [role for role, leader in self.tables.leaders.items() if leader is self]
        for role in roles:
            del self.tables.leaders[role]


def _matches(row: TaskRow, where: TaskFilter) -> bool:
    task = row.task
    return (
        where.status in (None, task.status)
        and where.user_id in (None, task.spec.user_id)
        and where.mode in (None, task.spec.mode)
    )
