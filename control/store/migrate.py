"""Migrate a database to the schema of this code with numbered scripts, each applied once."""

from __future__ import annotations

from contracts.errors import TreadleError
from control.store.queries import migrations
from infra.database import Database, retry_after_deadlock

TAKE_LOCK = "SELECT pg_advisory_xact_lock(hashtextextended('treadle/migrations', 0))"
CREATE_TABLE = """
CREATE TABLE IF NOT EXISTS schema_migrations (
    number integer PRIMARY KEY,
    name text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now()
)
"""
SELECT_APPLIED = "SELECT number FROM schema_migrations"
INSERT_APPLIED = "INSERT INTO schema_migrations (number, name) VALUES ($1, $2)"


class DatabaseTooNew(TreadleError):
    """The database has a newer schema than this version of Treadle supports."""

    def __init__(self, found: int, known: int) -> None:
        super().__init__(
            f"the database has schema {found}, but this version of treadle supports schemas up to {known}; "
            "install a newer treadle"
        )


async def migrate(database: Database) -> list[str]:
    """Apply the missing migrations in one transaction and return their names; concurrent calls are safe.

    A deadlock with a running control process is retried. Raises DatabaseTooNew, DatabaseUnavailable.
    """
    return await retry_after_deadlock(_migrate, database)


async def _migrate(database: Database) -> list[str]:
    known = migrations()
    async with database.transaction() as session:
        await session.fetch(TAKE_LOCK)
        await session.script(CREATE_TABLE)
        applied = {int(row["number"]) for row in await session.fetch(SELECT_APPLIED)}
        newest = known[-1][0]
        if max(applied, default=0) > newest:
            raise DatabaseTooNew(max(applied), newest)
        missing = [migration for migration in known if migration[0] not in applied]
        for number, name, script in missing:
            await session.script(script)
            await session.fetch(INSERT_APPLIED, number, name)
    return [name for _, name, _ in missing]
