"""The statements of the hot path find their rows by index, whatever the number of ended tasks."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import asyncpg
import pytest

from contracts.submissions import CancelTask
from control.store.queries import queries
from tests.conformance.stores import Bench

ENDED_TASKS = 100_000
LARGE = {"tasks", "attempts", "task_events", "inbox"}
"""Tables that grow with the number of ended tasks; the others hold only rows of active tasks and stay small."""
HOT = (
    "load",
    "apply",
    "create",
    "lease",
    "expired",
    "unclaimed",
    "looping",
    "lock_outbox",
    "attempts",
    "task_clock",
    "history",
    "tasks",
)

FILL = (
    """CREATE TEMP TABLE copies AS
    SELECT gen_random_uuid() AS copy, task_id AS original FROM generate_series(1, %d), tasks""",
    """INSERT INTO tasks (task_id, version, digest, spec, state)
    SELECT copy, version, digest, spec, state FROM copies JOIN tasks ON task_id = original""",
    """INSERT INTO attempts (task_id, iteration, phase, attempt, state, command_id, event, due_at, ended_at)
    SELECT copy, 1, 'train', 1, 'cancelled', gen_random_uuid(), '{}', now(), now() FROM copies""",
    """INSERT INTO task_events (task_id, version, kind, outcome, status, actor, event)
    SELECT copy, 1, 'create_task', 'applied', 'PENDING', 'user', '{}' FROM copies""",
    "INSERT INTO inbox (message_id, task_id) SELECT gen_random_uuid(), copy FROM copies",
    "ANALYZE",
)


@pytest.fixture
async def full_database(postgres_bench: Bench) -> Any:
    """A connection to a database with many ended tasks, which are copies of one cancelled task."""
    task = await postgres_bench.created()
    await postgres_bench.after(task, CancelTask(task_id=task.task_id))
    connection = await asyncpg.connect(postgres_bench.dsn)
    for statement in FILL:
        await connection.execute(statement.replace("%d", str(ENDED_TASKS)))
    yield connection
    await connection.close()


@pytest.mark.slow
async def test_no_hot_statement_scans_a_table_that_grows(full_database: asyncpg.Connection) -> None:
    scanned = {name: tables for name in HOT if (tables := await _scanned(full_database, name))}
    assert scanned == {}


async def _scanned(connection: asyncpg.Connection, name: str) -> set[str]:
    """The large tables that are scanned sequentially by the plan that does not depend on the statement's arguments."""
    sql = queries()[name]
    arguments = ", ".join(["NULL"] * max(map(int, re.findall(r"\$(\d+)", sql))))
    await connection.execute(f"SET plan_cache_mode = force_generic_plan; PREPARE hot_{name} AS {sql}")
    (row,) = await connection.fetch(f"EXPLAIN (FORMAT JSON) EXECUTE hot_{name} ({arguments})")
    (plan,) = json.loads(row["QUERY PLAN"])
    return {node["Relation Name"] for node in _nodes(plan["Plan"]) if node["Node Type"] == "Seq Scan"} & LARGE


def _nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for part in plan.get("Plans", ()):
        yield from _nodes(part)
