"""A database that an earlier Treadle has filled comes up to date with all that is in it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from uuid import uuid4

import asyncpg
import orjson
import pytest

from contracts.submissions import CancelTask
from contracts.tasks import Phase, TaskMode
from control.store.migrate import TABLE
from control.store.postgres import PostgresStore
from control.store.queries import migrations
from control.store.rows import state_of
from control.task import Task
from tests.build import complete, key_of, started
from tests.conformance.stores import TTL, change_of

ROW = "INSERT INTO tasks (task_id, version, digest, spec, state) VALUES ($1, $2, 'digest', $3, $4)"
EVENT = """INSERT INTO task_events (task_id, version, kind, outcome, status, actor, event)
VALUES ($1, $2, 'model_trained', 'applied', $3, 'worker', '{}')"""
RUN = """INSERT INTO phase_runs (task_id, iteration, phase, attempt, state, command_id, ordered_at, ended_at, event)
SELECT $1, 1, $2, 1, $3, gen_random_uuid(), now(), moment, CASE WHEN moment IS NOT NULL THEN '{}'::jsonb END
FROM (SELECT CASE WHEN $3 = 'completed' THEN now() END) AS ended (moment)"""


@pytest.fixture
async def upgraded(database_url: str) -> AsyncIterator[tuple[PostgresStore, Task]]:
    """A store upon a database of the first schema: one task evaluates, another has been evaluated and is over."""
    task, over = complete(started(), 2), complete(started(TaskMode.STANDARD, task_id=uuid4()), 3)
    number, name, script = migrations()[0]
    connection = await asyncpg.connect(database_url)
    await connection.execute(TABLE + ";" + script)
    await connection.execute("INSERT INTO schema_migrations (number, name) VALUES ($1, $2)", number, name)
    for one, evaluation in ((task, "dispatched"), (over, "completed")):
        state = orjson.dumps(state_of(one)).decode()
        await connection.execute(ROW, one.task_id, one.version, one.spec.model_dump_json(), state)
        await connection.execute(EVENT, one.task_id, one.version, one.status.value)
        for phase, attempt in (("optimize", "completed"), ("train", "completed"), ("evaluate", evaluation)):
            await connection.execute(RUN, one.task_id, phase, attempt)
    await connection.close()
    store = await PostgresStore.open(database_url, TTL.__getitem__)
    yield store, task
    await store.close()


async def test_tasks_attempts_and_history_are_as_they_were(upgraded: tuple[PostgresStore, Task]) -> None:
    store, task = upgraded
    assert (await store.task(task.task_id)).task == task
    assert [run.key.phase for run in await store.runs(task.task_id)] == list(Phase)
    assert [row.version for row in await store.history(task.task_id)] == [task.version]


async def test_a_task_under_way_goes_on(upgraded: tuple[PostgresStore, Task]) -> None:
    store, task = upgraded
    change = change_of(task, CancelTask(task_id=task.task_id))
    assert (await store.apply([change])).made == {change.event.message_id}
    newest = next(run for run in await store.runs(task.task_id) if run.key == key_of(task))
    assert newest.state == "cancelled"


async def test_evaluations_that_were_completed_leave_nothing_to_clean(upgraded: tuple[PostgresStore, Task]) -> None:
    store, _ = upgraded
    left = [run.key.phase for run in await store.uncleaned(0)]
    assert sorted(left) == [Phase.OPTIMIZE, Phase.TRAIN, Phase.TRAIN]
