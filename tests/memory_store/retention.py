"""The queries and deletions of retention, in memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from uuid import UUID

from contracts.artifacts import FOLDER_OF
from contracts.tasks import TERMINAL, AttemptKey, DatasetRef, Phase
from control.machine.machine import AttemptState
from control.store.values import AttemptRecord
from tests.memory_store.tables import AttemptRow, MemoryBase

ATTEMPT_FOLDERS = tuple(f"{folder}/" for folder in FOLDER_OF.values())


class MemoryRetention(MemoryBase):
    """Ended attempts, old inbox rows, and the artifacts that are referred to."""

    async def uncleaned(self, older_than: float, limit: int = 10_000) -> list[AttemptRecord]:
        """Attempts that ended `older_than` seconds ago and may have artifacts to delete; oldest first."""
        before = self._clock() - timedelta(seconds=older_than)
        ended = [
            (row.attempt.ended_at, row)
            for row in self.tables.all_attempts()
            if row.attempt.ended_at and row.attempt.ended_at < before
        ]
        rows = [row for _, row in sorted(ended, key=lambda pair: pair[0])]
        first = [row.attempt for row in rows if not _cleaned_at(row) and self._may_have_artifacts(row, before)]
        return (first + [row.attempt for row in rows if self._may_have_a_log(row)])[:limit]

    async def referenced_prefixes(self) -> frozenset[str]:
        """Prefixes of attempts that a task was given or that a model consists of."""
        models = [*self.tables.models.values(), *(row.task.spec.model for row in self.tables.tasks.values())]
        layers = [layer for model in models for layer in (model.base, *model.adapters)]
        given = [dataset.prefix for dataset in self._given_datasets()]
        return frozenset(
            name for name in (*layers, *given) if name.removeprefix("artifact:").startswith(ATTEMPT_FOLDERS)
        )

    async def mark_cleaned(self, keys: Sequence[AttemptKey]) -> None:
        """Mark these attempts as cleaned, so that `uncleaned` leaves them out."""
        for key in keys:
            row = self.tables.attempt(key)
            if row is not None:
                ended = self.tables.tasks[key.task_id].updated_at
                row.cleaned_at = max(self._clock(), ended + timedelta(microseconds=1))

    async def delete_datasets(self, prefixes: Sequence[str]) -> None:
        """Delete the rows of optimized datasets with these prefixes, except those that a task was given."""
        given = {dataset.dataset_id for dataset in self._given_datasets()}
        for dataset in list(self.tables.datasets.values()):
            if dataset.is_optimized and dataset.storage_path in prefixes and dataset.dataset_id not in given:
                del self.tables.datasets[dataset.dataset_id]

    async def old_inbox(self, older_than: float) -> int:
        """The number of inbox rows that are `older_than` seconds old and whose task has ended."""
        return len(self._old(older_than))

    async def delete_inbox(self, older_than: float, limit: int) -> int:
        """Delete at most `limit` of these rows; returns their number."""
        old = self._old(older_than)[:limit]
        for message_id in old:
            del self.tables.inbox[message_id]
        return len(old)

    async def delete_workers(self, older_than: float) -> None:
        """Forget the workers that sent no request since then."""
        before = self._ago(older_than)
        self.tables.workers = {name: row for name, row in self.tables.workers.items() if row[1] >= before}

    def _may_have_artifacts(self, row: AttemptRow, before: datetime) -> bool:
        if row.attempt.state is not AttemptState.COMPLETED:
            return True
        task = self.tables.tasks[row.attempt.key.task_id]
        ended = task.task.status in TERMINAL and task.updated_at < before
        return row.attempt.key.phase is Phase.TRAIN or (row.attempt.key.phase is Phase.OPTIMIZE and ended)

    def _may_have_a_log(self, row: AttemptRow) -> bool:
        """Whether it was cleaned before its task ended."""
        task, cleaned_at = self.tables.tasks[row.attempt.key.task_id], _cleaned_at(row)
        return task.task.status in TERMINAL and cleaned_at is not None and cleaned_at <= task.updated_at

    def _given_datasets(self) -> Iterator[DatasetRef]:
        for row in self.tables.tasks.values():
            datasets = row.task.spec.datasets
            splits = (datasets.train, datasets.dev, datasets.test, datasets.pool)
            yield from (dataset for dataset in splits if dataset)

    def _old(self, older_than: float) -> list[UUID]:
        before = self._clock() - timedelta(seconds=older_than)
        tasks = self.tables.tasks
        return [
            message_id
            for message_id, (task_id, at) in self.tables.inbox.items()
            if at < before and tasks[task_id].task.status in TERMINAL
        ]


def _cleaned_at(row: AttemptRow) -> datetime | None:
    """When the attempt was cleaned; a completed evaluation has nothing to delete, except a log."""
    completed = row.attempt.key.phase is Phase.EVALUATE and row.attempt.state is AttemptState.COMPLETED
    return row.attempt.ended_at if completed and row.cleaned_at is None else row.cleaned_at
