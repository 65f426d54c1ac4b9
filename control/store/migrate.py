"""Bring a database up to the schema of this code: numbered scripts, each applied once."""

from __future__ import annotations

from contracts.errors import TreadleError
from control.store.queries import migrations
from infra.database import Database, again_after_deadlock

LOCK = "SELECT pg_advisory_xact_lock(hashtextextended('treadle/migrations', 0))"
TABLE = """
CREATE TABLE IF NOT EXISTS schema_migrations (
    number integer PRIMARY KEY,
    name text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now()
)
"""
APPLIED = "SELECT number FROM schema_migrations"
APPLY = "INSERT INTO schema_migrations (number, name) VALUES ($1, $2)"


class DatabaseTooNew(TreadleError):
    """A newer Treadle has changed this database; this one does not know how to use it."""

    def __init__(self, found: int, known: int) -> None:
        super().__init__(
            f"the database has schema {found}, this version of treadle knows up to {known}: upgrade treadle"
        )


async def migrate(database: Database) -> list[str]:
    """Apply what is missing, all or nothing; the names of what was applied. Several may call it at once.

    A deadlock with a control process that works meanwhile is tried again. Raises DatabaseTooNew, DatabaseUnavailable.
    """
    return await again_after_deadlock(_migrate, database)


async def _migrate(database: Database) -> list[str]:
    known = migrations()
    async with database.transaction() as session:
        await session.fetch(LOCK)
        await session.script(TABLE)
        applied = {int(row["number"]) for row in await session.fetch(APPLIED)}
        newest = known[-1][0]
        if max(applied, default=0) > newest:
            raise DatabaseTooNew(max(applied), newest)
        missing = [migration for migration in known if migration[0] not in applied]
        for number, name, script in missing:
            await session.script(script)
            await session.fetch(APPLY, number, name)
    return [name for _, name, _ in missing]
