"""Fills a database with many ended tasks, by copying one of them inside the server."""

from __future__ import annotations

import statistics
import time

import asyncpg
import httpx

PAGES = ("/api/tasks?pageSize=50", "/api/tasks?pageSize=50&status=COMPLETED", "/api/tasks?pageSize=50&userId=1")
REQUESTS = 20
"""Requests for each page."""

FILL = (
    """CREATE TEMP TABLE copies AS
    SELECT gen_random_uuid() AS copy, task.task_id AS original, now() - make_interval(secs => n) AS at
    FROM generate_series(1, $1::integer) AS n,
         (SELECT task_id FROM tasks WHERE status = 'COMPLETED' LIMIT 1) AS task /* bench */""",
    """INSERT INTO tasks (task_id, version, digest, spec, state, created_at, updated_at)
    SELECT copy, version, digest, spec, state, at, at
    FROM copies JOIN tasks ON task_id = original /* bench */""",
    """INSERT INTO attempts (task_id, iteration, phase, attempt, state, command_id, input_dataset_id, worker_id,
                               claim_id, event, created_at, due_at, claimed_at, lease_expires_at, ended_at)
    SELECT copy, iteration, phase, attempt, state, gen_random_uuid(), input_dataset_id, worker_id, claim_id, event,
           created_at, due_at, claimed_at, lease_expires_at, ended_at
    FROM copies JOIN attempts ON task_id = original /* bench */""",
    """INSERT INTO task_events (task_id, version, kind, outcome, status, actor, reason, event, at)
    SELECT copy, version, kind, outcome, status, actor, reason, event, copies.at
    FROM copies JOIN task_events ON task_id = original /* bench */""",
    """INSERT INTO inbox (message_id, task_id) SELECT gen_random_uuid(), copy FROM copies, generate_series(1, 4)""",
)


async def fill(database: asyncpg.Connection, tasks: int) -> None:
    """Add `tasks` completed tasks with their attempts, history and inbox; one completed task must exist."""
    first, *rest = FILL
    await database.execute("DROP TABLE IF EXISTS copies")
    await database.execute(first.replace("$1::integer", str(int(tasks))))
    for statement in rest:
        await database.execute(statement)
    await database.execute("VACUUM (ANALYZE)")  # as autovacuum would do within a minute
    await database.execute("CHECKPOINT")


async def slowest_page(http: httpx.AsyncClient) -> float:
    """The median seconds of the slowest kind of listing page."""
    return max([await _page(http, path) for path in PAGES])


async def _page(http: httpx.AsyncClient, path: str) -> float:
    seconds = []
    for _ in range(REQUESTS):
        began = time.perf_counter()
        (await http.get(path)).raise_for_status()
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds)
