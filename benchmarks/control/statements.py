"""SQL statements, as the server counts them; the benchmark's own are marked and left out."""

from __future__ import annotations

from dataclasses import dataclass

import asyncpg

COUNT = """SELECT coalesce(sum(calls), 0)::bigint FROM pg_stat_statements
WHERE dbid = (SELECT oid FROM pg_database WHERE datname = current_database())
  AND query NOT LIKE '%/* bench */%' AND query NOT LIKE '%pg_stat_statements%'"""
EVENTS = "SELECT count(*) FROM task_events /* bench */"


@dataclass(frozen=True)
class Tally:
    """Statements and events so far."""

    statements: int
    events: int

    def since(self, earlier: Tally) -> float:
        """Statements an event since then."""
        return (self.statements - earlier.statements) / max(1, self.events - earlier.events)


async def tally(database: asyncpg.Connection) -> Tally:
    """Both counts now."""
    await database.execute("CREATE EXTENSION IF NOT EXISTS pg_stat_statements /* bench */")
    return Tally(await database.fetchval(COUNT), await database.fetchval(EVENTS))
