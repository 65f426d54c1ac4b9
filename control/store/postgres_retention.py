"""What may be cleaned, in PostgreSQL."""

from __future__ import annotations

from collections.abc import Sequence

from contracts.tasks import AttemptKey
from control.store.port import Run
from control.store.postgres_base import PostgresBase
from control.store.rows import run_from


class PostgresRetention(PostgresBase):
    """Attempts and messages that are over, and what is referred to."""

    async def uncleaned(self, older_than: float, limit: int = 10_000) -> list[Run]:
        """Attempts that ended so long ago and may have left something behind."""
        return [run_from(row) for row in await self._fetch("uncleaned", older_than, limit)]

    async def named(self) -> frozenset[str]:
        """Prefixes of attempts that a task was given or a model is made of."""
        return frozenset(row["reference"] for row in await self._fetch("named"))

    async def mark_cleaned(self, keys: Sequence[AttemptKey]) -> None:
        """Look at these attempts no more."""
        await self._fetch("mark_cleaned", [key.model_dump(mode="json") for key in keys])

    async def forget_datasets(self, prefixes: Sequence[str]) -> None:
        """Take optimised datasets off the register, those that no task was given."""
        await self._fetch("forget_datasets", list(prefixes))

    async def old_inbox(self, older_than: float) -> int:
        """How many messages of ended tasks were handled so long ago."""
        (row,) = await self._fetch("old_inbox", older_than)
        count: int = row["count"]
        return count

    async def forget_inbox(self, older_than: float, limit: int) -> int:
        """Forget at most `limit` of them; how many."""
        return len(await self._fetch("forget_inbox", older_than, limit))
