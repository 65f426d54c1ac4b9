"""Counts SQL statements by pg_stat_statements; the statements of the benchmark are marked and left out."""

from __future__ import annotations

from dataclasses import dataclass

import asyncpg

COUNT = """SELECT coalesce(sum(calls), 0)::bigint FROM pg_stat_statements
WHERE dbid = (SELECT oid FROM pg_database WHERE datname = current_database())
  AND query NOT LIKE '%/* bench */%' AND query NOT LIKE '%pg_stat_statements%'"""
EVENTS = "SELECT count(*) FROM task_events /* bench */"


@dataclass(frozen=True)
class Tally:
    """The numbers of statements and of events so far."""

    statements: int
    events: int

    def since(self, earlier: Tally) -> float:
        """Statements per event since `earlier`."""
        return (self.statements - earlier.statements) / max(1, self.events - earlier.events)


async def tally(database: asyncpg.Connection) -> Tally:
    """The present counts."""
    await database.execute("CREATE EXTENSION IF NOT EXISTS pg_stat_statements /* bench */")
    return Tally(await database.fetchval(COUNT), await database.fetchval(EVENTS))
