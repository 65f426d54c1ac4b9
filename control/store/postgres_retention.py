"""What retention reads and deletes in PostgreSQL."""

from __future__ import annotations

from collections.abc import Sequence

from contracts.tasks import AttemptKey
from control.store.postgres_base import PostgresBase
from control.store.rows import attempt_from
from control.store.values import AttemptRecord


class PostgresRetention(PostgresBase):
    """Ended attempts, old inbox rows, and the prefixes that are still referenced."""

    async def uncleaned(self, older_than: float, limit: int = 10_000) -> list[AttemptRecord]:
        """Attempts that ended `older_than` seconds ago and may have artifacts to delete; oldest first."""
        return [attempt_from(row) for row in await self._fetch("uncleaned", older_than, limit)]

    async def referenced_prefixes(self) -> frozenset[str]:
        """Every attempt's prefix that is an input of a task or a layer of a registered model."""
        return frozenset(row["reference"] for row in await self._fetch("referenced_prefixes"))

    async def mark_cleaned(self, keys: Sequence[AttemptKey]) -> None:
        """Mark these attempts: none of their artifacts has to be deleted later."""
        await self._fetch("mark_cleaned", [key.model_dump(mode="json") for key in keys])

    async def delete_datasets(self, prefixes: Sequence[str]) -> None:
        """Delete the registry rows of optimized datasets under these prefixes, except inputs of a task."""
        await self._fetch("delete_datasets", list(prefixes))

    async def old_inbox(self, older_than: float) -> int:
        """The number of inbox rows of ended tasks that are older than `older_than` seconds."""
        (row,) = await self._fetch("old_inbox", older_than)
        count: int = row["count"]
        return count

    async def delete_inbox(self, older_than: float, limit: int) -> int:
        """Delete at most `limit` rows that `old_inbox` counts, and return how many were deleted."""
        return len(await self._fetch("delete_inbox", older_than, limit))

    async def delete_workers(self, older_than: float) -> None:
        """Delete the rows of workers that sent no request in the last `older_than` seconds."""
        await self._fetch("delete_workers", older_than)

    async def dataset_paths(self, after: str, limit: int) -> list[str]:
        """The prefixes of all users' datasets that sort after `after`, in order."""
        return [row["storage_path"] for row in await self._fetch("dataset_paths", after, limit)]
