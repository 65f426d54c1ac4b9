"""The store in memory: the same semantics as PostgreSQL's, by a clock that a simulation may set."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from uuid import UUID

from contracts.tasks import ModelSource, TaskStatus
from control.store.port import Dataset, HistoryRow, OutboxRow, Run, Stored, TaskFilter, TaskNotFound
from tests.memory_store.changes import MemoryChanges
from tests.memory_store.leases import MemoryLeases
from tests.memory_store.retention import MemoryRetention
from tests.memory_store.tables import TaskRow


class MemoryStore(MemoryChanges, MemoryLeases, MemoryRetention):
    """Control's store for tests and simulations. Two stores upon the same `tables` are two processes."""

    async def take_outbox(self, limit: int, hold: float) -> list[OutboxRow]:
        """Due rows that nobody holds, now held."""
        now = self._clock()
        free = [entry for entry in self.tables.outbox.values() if entry.held_until <= now]
        taken = sorted(free, key=lambda entry: (entry.held_until, entry.row.id))[:limit]
        for entry in taken:
            entry.held_until = now + timedelta(seconds=hold)
        return [entry.row for entry in taken]

    async def forget_outbox(self, ids: Sequence[int]) -> None:
        """Delete confirmed rows."""
        for row_id in ids:
            self.tables.outbox.pop(row_id, None)

    async def outbox_depth(self) -> tuple[int, float]:
        """Rows waiting, and the age of the oldest due one in seconds."""
        now = self._clock()
        ages = [(now - entry.available_at).total_seconds() for entry in self.tables.outbox.values()]
        return len(ages), max(0.0, *ages) if ages else 0.0

    async def lead(self, role: str) -> bool:
        """Whether this store was the first of those upon its tables to ask for the role."""
        return self.tables.leaders.setdefault(role, self) is self

    async def task(self, task_id: UUID) -> Stored:
        """One task. Raises TaskNotFound."""
        row = self.tables.tasks.get(task_id)
        if row is None:
            raise TaskNotFound(task_id)
        return _stored(row)

    async def tasks(self, where: TaskFilter, page: int, size: int) -> tuple[list[Stored], int]:
        """A page of tasks, newest first, and how many there are."""
        found = [row for row in self.tables.tasks.values() if _matches(row, where)]
        found.sort(key=lambda row: (row.created_at, row.task.task_id), reverse=True)
        return [_stored(row) for row in found[(page - 1) * size : page * size]], len(found)

    async def runs(self, *task_ids: UUID) -> list[Run]:
        """All attempts of these tasks, oldest first."""
        found = [row.run for task_id in set(task_ids) for row in self.tables.runs.get(task_id, {}).values()]
        return sorted(found, key=lambda run: run.created_at)

    async def history(self, task_id: UUID, after: int = 0, limit: int = 1000) -> list[HistoryRow]:
        """History rows with an id above `after`, oldest first."""
        return [row for row in self.tables.history[after:] if row.task_id == task_id][:limit]

    async def counts(self) -> dict[TaskStatus, int]:
        """How many tasks stand where; every status is there."""
        found = Counter(row.task.status for row in self.tables.tasks.values())
        return {status: found[status] for status in TaskStatus}

    async def add_dataset(self, dataset: Dataset) -> None:
        """Register a dataset; the same id again changes nothing."""
        self.tables.datasets.setdefault(dataset.dataset_id, replace(dataset, created_at=self._clock()))

    async def dataset(self, dataset_id: str) -> Dataset | None:
        """One dataset."""
        return self.tables.datasets.get(dataset_id)

    async def find_datasets(self, dataset_ids: Sequence[str]) -> dict[str, Dataset]:
        """Those of these datasets that there are."""
        return {name: self.tables.datasets[name] for name in dataset_ids if name in self.tables.datasets}

    async def datasets(self, user_id: int) -> list[Dataset]:
        """A user's datasets, newest first."""
        found = [dataset for dataset in self.tables.datasets.values() if dataset.user_id == user_id]
        return sorted(found, key=lambda dataset: (dataset.created_at, dataset.dataset_id), reverse=True)

    async def model(self, task_id: UUID, iteration: int | None) -> ModelSource | None:
        """The model of an iteration; without one, of the best, else of the newest that trained."""
        if iteration is not None:
            return self.tables.models.get((task_id, iteration))
        row = self.tables.tasks.get(task_id)
        if row is None:
            return None
        if row.task.best is not None:
            return row.task.best.model
        newest = max((i for found, i in self.tables.models if found == task_id), default=0)
        return self.tables.models.get((task_id, newest))

    async def now(self) -> datetime:
        """The clock's time."""
        return self._clock()

    async def close(self) -> None:
        """Step down from every role."""
        held = [role for role, leader in self.tables.leaders.items() if leader is self]
        for role in held:
            del self.tables.leaders[role]


def _stored(row: TaskRow) -> Stored:
    return Stored(row.task, row.created_at, row.updated_at)


def _matches(row: TaskRow, where: TaskFilter) -> bool:
    task = row.task
    return (
        where.status in (None, task.status)
        and where.user_id in (None, task.spec.user_id)
        and where.mode in (None, task.spec.mode)
    )
