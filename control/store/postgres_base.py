"""The base of the PostgreSQL store: named statements, and StoreUnavailable if the database cannot be reached."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from contracts.tasks import Phase
from control.store.port import StoreUnavailable
from control.store.queries import queries
from infra.database import Database, DatabaseUnavailable, Row


class PostgresBase:
    """A database, and the length of a phase's lease in seconds."""

    def __init__(self, database: Database, ttl_of: Callable[[Phase], float]) -> None:
        self._database = database
        self._ttl_of = ttl_of

    async def _fetch(self, name: str, *arguments: object) -> Sequence[Row]:
        """The rows of a named statement. Raises StoreUnavailable."""
        try:
            return await self._database.fetch(queries()[name], *arguments)
        except DatabaseUnavailable as error:
            raise StoreUnavailable(str(error)) from error
