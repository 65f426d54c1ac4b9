"""The store on PostgreSQL. The statements are in `control/sql`; the constraints there keep the data correct."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from uuid import UUID

from contracts.tasks import AttemptKey, ModelSource, Phase, TaskStatus
from control.store.migrate import migrate
from control.store.port import StoreUnavailable, TaskNotFound
from control.store.postgres_changes import PostgresChanges
from control.store.postgres_leases import PostgresLeases
from control.store.postgres_retention import PostgresRetention
from control.store.rows import (
    attempt_from,
    dataset_from,
    history_from,
    outbox_row_from,
    stored_from,
    task_clock_from,
)
from control.store.values import AttemptRecord, Dataset, HistoryRow, OutboxRow, StoredTask, TaskClock, TaskFilter
from infra.database import Database, DatabaseUnavailable


class PostgresStore(PostgresChanges, PostgresLeases, PostgresRetention):
    """The store of control; any number of processes may use one database."""

    @classmethod
    async def open(cls, dsn: str, ttl_of: Callable[[Phase], float]) -> PostgresStore:
        """Connect and migrate the schema. Raises StoreUnavailable, DatabaseTooNew."""
        try:
            database = await Database.open(dsn)
            await migrate(database)
        except DatabaseUnavailable as error:
            raise StoreUnavailable(str(error)) from error
        return cls(database, ttl_of)

    async def close(self) -> None:
        """Give up every leader role and disconnect."""
        await self._step_down()
        await self._database.close()

    async def lock_outbox(self, limit: int, lock_seconds: float) -> list[OutboxRow]:
        """Lock unlocked due rows for `lock_seconds` seconds, and return them."""
        return [outbox_row_from(row) for row in await self._fetch("lock_outbox", limit, lock_seconds)]

    async def delete_outbox(self, ids: Sequence[int]) -> None:
        """Delete rows that the broker has confirmed."""
        await self._fetch("delete_outbox", list(ids))

    async def outbox_depth(self) -> tuple[int, float]:
        """The number of rows, and the seconds since the first of them was due (0 if none is)."""
        (row,) = await self._fetch("outbox_depth")
        return row["waiting"], row["age"]

    async def task(self, task_id: UUID) -> StoredTask:
        """One task. Raises TaskNotFound."""
        rows = await self._fetch("task", task_id)
        if not rows:
            raise TaskNotFound(task_id)
        return stored_from(rows[0])

    async def tasks(self, task_filter: TaskFilter, page: int, size: int) -> tuple[list[StoredTask], int]:
        """A page (from 1) of the matching tasks, newest first, and the number of all matching tasks."""
        matching = (task_filter.status, task_filter.user_id, task_filter.mode)
        rows = await self._fetch("tasks", *matching, size, (page - 1) * size)
        (total,) = await self._fetch("count_tasks", *matching)
        return [stored_from(row) for row in rows], total["count"]

    async def attempts(
        self, *task_ids: UUID, page: int = 1, size: int | None = None, iteration: int | None = None
    ) -> list[AttemptRecord]:
        """A page (from 1) of the attempts of these tasks, or of an iteration of them, oldest first."""
        rows = await self._fetch("attempts", list(task_ids), size, (page - 1) * (size or 0), iteration)
        return [attempt_from(row) for row in rows]

    async def task_clock(self, task_id: UUID) -> TaskClock:
        """The times of a task's ended attempts and standstills."""
        return task_clock_from(await self._fetch("task_clock", task_id))

    async def attempt(self, key: AttemptKey) -> AttemptRecord | None:
        """One attempt; None if there is none with this key."""
        rows = await self._fetch("attempt", key.task_id, key.iteration, key.phase.value, key.attempt)
        return attempt_from(rows[0]) if rows else None

    async def history(self, task_id: UUID, after: int = 0, limit: int = 1000) -> list[HistoryRow]:
        """History rows with an id above `after`, oldest first."""
        return [history_from(row) for row in await self._fetch("history", task_id, after, limit)]

    async def counts(self) -> dict[TaskStatus, int]:
        """The number of tasks in each status, 0 included."""
        numbers = {row["status"]: row["tasks"] for row in await self._fetch("counts")}
        return {status: numbers.get(status.value, 0) for status in TaskStatus}

    async def add_dataset(self, dataset: Dataset) -> None:
        """Register a dataset; an id that exists is not changed."""
        await self._fetch(
            "add_dataset",
            dataset.dataset_id,
            dataset.name,
            dataset.storage_path,
            dataset.file_size,
            dataset.sample_count,
            dataset.dataset_type,
            dataset.domain,
            dataset.user_id,
            dataset.is_optimized,
            dataset.source_dataset_id,
        )

    async def dataset(self, dataset_id: str) -> Dataset | None:
        """One dataset; None if there is none with this id."""
        return (await self.find_datasets([dataset_id])).get(dataset_id)

    async def find_datasets(self, dataset_ids: Sequence[str]) -> dict[str, Dataset]:
        """Those of these datasets that exist, by their ids."""
        return {row["dataset_id"]: dataset_from(row) for row in await self._fetch("find_datasets", list(dataset_ids))}

    async def datasets(self, user_id: int, page: int = 1, size: int = 1000) -> list[Dataset]:
        """A page (from 1) of a user's datasets, newest first."""
        return [dataset_from(row) for row in await self._fetch("datasets", user_id, size, (page - 1) * size)]

    async def model(self, task_id: UUID, iteration: int | None) -> ModelSource | None:
        """The model of an iteration; without an iteration, of the best one, else of the newest one with a model."""
        if iteration is not None:
            rows = await self._fetch("model", task_id, iteration)
        else:
            best = await self._best_model(task_id)
            if best is not None:
                return best
            rows = await self._fetch("newest_model", task_id)
        return ModelSource.model_validate(rows[0]["source"]) if rows else None

    async def now(self) -> datetime:
        """The time by the database's clock."""
        (row,) = await self._fetch("now")
        moment: datetime = row["clock_timestamp"]
        return moment

    async def _best_model(self, task_id: UUID) -> ModelSource | None:
        rows = await self._fetch("task", task_id)
        best = stored_from(rows[0]).task.best if rows else None
        return best.model if best else None
