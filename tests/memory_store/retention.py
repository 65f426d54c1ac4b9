"""What may be cleaned, in memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from uuid import UUID

from contracts.artifacts import FOLDER_OF
from contracts.tasks import TERMINAL, AttemptKey, DatasetRef, Phase
from control.machine.machine import RunState
from control.store.port import Run
from tests.memory_store.tables import MemoryBase, RunRow

OF_ATTEMPTS = tuple(f"{folder}/" for folder in FOLDER_OF.values())


class MemoryRetention(MemoryBase):
    """Attempts and messages that are over, and what is referred to."""

    async def uncleaned(self, older_than: float, limit: int = 10_000) -> list[Run]:
        """Attempts that ended so long ago and may have left something behind."""
        before = self._clock() - timedelta(seconds=older_than)
        found = [
            (row.run.ended_at, row.run)
            for row in self.tables.all_runs()
            if row.run.ended_at and row.run.ended_at < before and not row.cleaned and self._may_leave(row, before)
        ]
        return [run for _, run in sorted(found, key=lambda one: one[0])][:limit]

    async def named(self) -> frozenset[str]:
        """Prefixes of attempts that a task was given or a model is made of."""
        models = [*self.tables.models.values(), *(row.task.spec.model for row in self.tables.tasks.values())]
        layers = [layer for model in models for layer in (model.base, *model.adapters)]
        given = [dataset.prefix for dataset in self._given()]
        return frozenset(name for name in (*layers, *given) if name.removeprefix("artifact:").startswith(OF_ATTEMPTS))

    async def mark_cleaned(self, keys: Sequence[AttemptKey]) -> None:
        """Look at these attempts no more."""
        for key in keys:
            row = self.tables.run(key)
            if row is not None:
                row.cleaned = True

    async def forget_datasets(self, prefixes: Sequence[str]) -> None:
        """Take optimised datasets off the register, those that no task was given."""
        given = {dataset.dataset_id for dataset in self._given()}
        for dataset in list(self.tables.datasets.values()):
            if dataset.is_optimized and dataset.storage_path in prefixes and dataset.dataset_id not in given:
                del self.tables.datasets[dataset.dataset_id]

    async def old_inbox(self, older_than: float) -> int:
        """How many messages of ended tasks were handled so long ago."""
        return len(self._old(older_than))

    async def forget_inbox(self, older_than: float, limit: int) -> int:
        """Forget at most `limit` of them; how many."""
        gone = self._old(older_than)[:limit]
        for message_id in gone:
            del self.tables.inbox[message_id]
        return len(gone)

    def _may_leave(self, row: RunRow, before: datetime) -> bool:
        if row.run.state is not RunState.COMPLETED:
            return True
        task = self.tables.tasks[row.run.key.task_id]
        ended = task.task.status in TERMINAL and task.updated_at < before
        return row.run.key.phase is Phase.TRAIN or (row.run.key.phase is Phase.OPTIMIZE and ended)

    def _given(self) -> Iterator[DatasetRef]:
        for row in self.tables.tasks.values():
            datasets = row.task.spec.datasets
            yield from (one for one in (datasets.train, datasets.dev, datasets.test, datasets.pool) if one)

    def _old(self, older_than: float) -> list[UUID]:
        before = self._clock() - timedelta(seconds=older_than)
        tasks = self.tables.tasks
        return [
            message_id
            for message_id, (task_id, at) in self.tables.inbox.items()
            if at < before and tasks[task_id].task.status in TERMINAL
        ]
