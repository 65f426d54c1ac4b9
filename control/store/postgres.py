"""The store on PostgreSQL. Statements are text in `control/sql`; correctness rests on the constraints there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from uuid import UUID

from contracts.tasks import ModelSource, Phase, TaskStatus
from control.store.migrate import migrate
from control.store.port import Dataset, HistoryRow, OutboxRow, Run, Stored, StoreUnavailable, TaskFilter, TaskNotFound
from control.store.postgres_changes import PostgresChanges
from control.store.postgres_leases import PostgresLeases
from control.store.postgres_retention import PostgresRetention
from control.store.rows import dataset_from, history_from, outbox_row, run_from, stored_from
from infra.database import Database, DatabaseUnavailable


class PostgresStore(PostgresChanges, PostgresLeases, PostgresRetention):
    """Control's store. Any number of processes may work on one database."""

    @classmethod
    async def open(cls, dsn: str, ttl_of: Callable[[Phase], float]) -> PostgresStore:
        """Connect, and bring the schema up to date. Raises StoreUnavailable, DatabaseTooNew."""
        try:
            database = await Database.open(dsn)
            await migrate(database)
        except DatabaseUnavailable as error:
            raise StoreUnavailable(str(error)) from error
        return cls(database, ttl_of)

    async def close(self) -> None:
        """Step down from every role and disconnect."""
        await self._step_down()
        await self._database.close()

    async def take_outbox(self, limit: int, hold: float) -> list[OutboxRow]:
        """Due rows that nobody holds, now held."""
        return [outbox_row(row) for row in await self._fetch("take_outbox", limit, hold)]

    async def forget_outbox(self, ids: Sequence[int]) -> None:
        """Delete confirmed rows."""
        await self._fetch("forget_outbox", list(ids))

    async def outbox_depth(self) -> tuple[int, float]:
        """Rows waiting, and the age of the oldest due one in seconds."""
        (row,) = await self._fetch("outbox_depth")
        return row["waiting"], row["age"]

    async def task(self, task_id: UUID) -> Stored:
        """One task. Raises TaskNotFound."""
        rows = await self._fetch("task", task_id)
        if not rows:
            raise TaskNotFound(task_id)
        return stored_from(rows[0])

    async def tasks(self, where: TaskFilter, page: int, size: int) -> tuple[list[Stored], int]:
        """A page of tasks, newest first, and how many there are."""
        matching = (where.status, where.user_id, where.mode)
        rows = await self._fetch("tasks", *matching, size, (page - 1) * size)
        (counted,) = await self._fetch("count_tasks", *matching)
        return [stored_from(row) for row in rows], counted["count"]

    async def runs(self, *task_ids: UUID) -> list[Run]:
        """All attempts of these tasks, oldest first."""
        return [run_from(row) for row in await self._fetch("runs", list(task_ids))]

    async def history(self, task_id: UUID, after: int = 0, limit: int = 1000) -> list[HistoryRow]:
        """History rows with an id above `after`, oldest first."""
        return [history_from(row) for row in await self._fetch("history", task_id, after, limit)]

    async def counts(self) -> dict[TaskStatus, int]:
        """How many tasks stand where; every status is there."""
        found = {row["status"]: row["tasks"] for row in await self._fetch("counts")}
        return {status: found.get(status.value, 0) for status in TaskStatus}

    async def add_dataset(self, dataset: Dataset) -> None:
        """Register a dataset; the same id again changes nothing."""
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
        """One dataset."""
        return (await self.find_datasets([dataset_id])).get(dataset_id)

    async def find_datasets(self, dataset_ids: Sequence[str]) -> dict[str, Dataset]:
        """Those of these datasets that there are."""
        return {row["dataset_id"]: dataset_from(row) for row in await self._fetch("find_datasets", list(dataset_ids))}

    async def datasets(self, user_id: int) -> list[Dataset]:
        """A user's datasets, newest first."""
        return [dataset_from(row) for row in await self._fetch("datasets", user_id)]

    async def model(self, task_id: UUID, iteration: int | None) -> ModelSource | None:
        """The model of an iteration; without one, of the best, else of the newest that trained."""
        if iteration is not None:
            rows = await self._fetch("model", task_id, iteration)
        else:
            best = await self._best_model(task_id)
            if best is not None:
                return best
            rows = await self._fetch("newest_model", task_id)
        return ModelSource.model_validate(rows[0]["source"]) if rows else None

    async def now(self) -> datetime:
        """The database's clock."""
        (row,) = await self._fetch("now")
        moment: datetime = row["clock_timestamp"]
        return moment

    async def _best_model(self, task_id: UUID) -> ModelSource | None:
        rows = await self._fetch("task", task_id)
        best = stored_from(rows[0]).task.best if rows else None
        return best.model if best else None
