"""The PostgreSQL store alone: constraints, races, migrations, query plans and outages."""

from __future__ import annotations

import asyncio
from uuid import uuid4

import asyncpg
import pytest

from contracts.leases import Claim, LeaseVerdict
from contracts.tasks import TaskMode
from control.store.migrate import DatabaseTooNew
from control.store.port import StoreUnavailable
from control.store.postgres import PostgresStore
from control.store.queries import queries
from control.store.values import NewTask
from infra.database import Database, DatabaseUnavailable
from tests.build import completed, failed, key_of, lost, new_task
from tests.conformance.stores import TTL, WORKER, Bench, answered, change_of, execute

IMPOSSIBLE = {
    "an unknown status": 'UPDATE tasks SET version = version + 1, state = state || \'{"status": "RESTING"}\'',
    "a suspended task without its previous status": (
        'UPDATE tasks SET version = version + 1, state = state || \'{"status": "SUSPENDED"}\''
    ),
    "an active task without an active attempt": (
        "UPDATE tasks SET version = version + 1, state = state || '{\"attempt_active\": false}'"
    ),
    "a task that failed without a reason": (
        "UPDATE tasks SET version = version + 1, "
        'state = state || \'{"status": "FAILED", "resume_status": "TRAINING", "attempt_active": false}\''
    ),
    "a version that jumps": "UPDATE tasks SET version = version + 2",
    "a version that does not change": "UPDATE tasks SET state = state",
    "another specification": "UPDATE tasks SET version = version + 1, spec = spec || '{\"seed\": 2}'",
    "a history without its task": "DELETE FROM tasks",
    "a history without any task": "TRUNCATE tasks",
    "a history that is changed": "UPDATE task_events SET actor = 'another'",
    "a history that is shortened": "DELETE FROM task_events",
    "a history that is emptied": "TRUNCATE task_events",
    "two events of one version": (
        "INSERT INTO task_events (task_id, version, kind, outcome, status, actor, event) "
        "SELECT task_id, version, kind, outcome, status, actor, event FROM task_events"
    ),
    "a stale event that makes a version": (
        "INSERT INTO task_events (task_id, version, kind, outcome, status, actor, event) "
        "SELECT task_id, 9, kind, 'stale', status, actor, event FROM task_events LIMIT 1"
    ),
    "two active attempts of a task": (
        "INSERT INTO attempts (task_id, iteration, phase, attempt, state, command_id, due_at) "
        "SELECT task_id, 1, 'optimize', 2, 'dispatched', gen_random_uuid(), now() FROM tasks"
    ),
    "a running attempt without a worker": "UPDATE attempts SET state = 'running'",
    "a worker without a lease": "UPDATE attempts SET worker_id = 'worker-1'",
    "an attempt that ended without an event": "UPDATE attempts SET state = 'failed', ended_at = now()",
    "an attempt of an unknown phase": "UPDATE attempts SET phase = 'dream'",
    "more than all of the work": "UPDATE attempts SET fraction = 1.5",
    "one message twice in the outbox": (
        "INSERT INTO outbox (message_id, task_id, exchange, routing_key, body, headers, available_at, locked_until) "
        "SELECT message_id, task_id, exchange, routing_key, body, headers, available_at, locked_until FROM outbox"
    ),
    "a message that is free before it is due": "UPDATE outbox SET available_at = locked_until + interval '1 s'",
    "an optimized dataset without a source": (
        "INSERT INTO datasets (dataset_id, name, storage_path, file_size, dataset_type, user_id, is_optimized) "
        "VALUES ('d', 'n', 'p', 0, 'optimized', 1, true)"
    ),
    "a worker without slots": "INSERT INTO workers VALUES ('w', 'train', 'h', 0, 0, now())",
}


@pytest.mark.parametrize("case", IMPOSSIBLE)
async def test_an_impossible_row_cannot_be_written(postgres_bench: Bench, case: str) -> None:
    await postgres_bench.started()
    with pytest.raises(asyncpg.IntegrityConstraintViolationError):
        await execute(postgres_bench.dsn, IMPOSSIBLE[case])


async def test_a_state_that_another_process_wrote_with_the_same_version_is_read_again(postgres_bench: Bench) -> None:
    task = await postgres_bench.started()
    await execute(
        postgres_bench.dsn,
        "SET session_replication_role = replica;"
        "UPDATE tasks SET state = state || '{\"failures\": 2}', updated_at = updated_at + interval '1 s'",
    )
    (loaded,) = await postgres_bench.store.load([(task.task_id, uuid4())])
    assert loaded is not None
    assert loaded.task.failures == 2


async def test_only_one_of_many_changes_to_one_version_is_applied(postgres_bench: Bench) -> None:
    task = await postgres_bench.started()
    stores = [postgres_bench.store, await postgres_bench.another()]
    events = [completed(task), failed(task), lost(task)]
    applied = await asyncio.gather(
        *(stores[n % 2].apply([change_of(task, event)]) for n, event in enumerate(events * 2))
    )
    assert sum(len(result.tasks) for result in applied) == 1
    assert [row.version for row in await postgres_bench.store.history(task.task_id)] == [1, 2, 3]


async def test_overlapping_batches_neither_deadlock_nor_apply_twice(postgres_bench: Bench) -> None:
    tasks = [await postgres_bench.started() for _ in range(20)]
    changes = [change_of(task, completed(task)) for task in tasks]
    second = await postgres_bench.another()
    both = await asyncio.gather(postgres_bench.store.apply(changes), second.apply(changes[::-1]))
    applied = [message_id for applied in both for message_id in applied.tasks]
    assert sorted(applied) == sorted(change.event.message_id for change in changes)


async def test_only_one_of_many_concurrent_claims_is_granted(postgres_bench: Bench) -> None:
    key = key_of(await postgres_bench.started())
    second = await postgres_bench.another()
    answers = await asyncio.gather(
        *(store.lease(WORKER, [Claim(key=key, claim_id=uuid4())], []) for store in (postgres_bench.store, second) * 3)
    )
    verdicts = sorted(answer.verdict for (answer,) in answers)
    assert verdicts == [LeaseVerdict.GRANTED, *[LeaseVerdict.HELD] * 5]


async def test_a_claim_that_waited_for_a_change_is_decided_on_the_ended_attempt(postgres_bench: Bench) -> None:
    task = await postgres_bench.started()
    connection = await asyncpg.connect(postgres_bench.dsn)
    transaction = connection.transaction()
    await transaction.start()
    await connection.execute("UPDATE attempts SET state = 'cancelled', ended_at = now(), event = '{}'")
    claiming = asyncio.create_task(postgres_bench.claim(key_of(task), uuid4()))
    await _wait_for_a_blocked_session(connection)
    await transaction.commit()
    await connection.close()
    assert await claiming is LeaseVerdict.CANCELLED


async def test_only_one_of_many_processes_creates_a_task(postgres_bench: Bench) -> None:
    new = NewTask(new_task(TaskMode.CONTINUOUS, uuid4()), "digest", "user")
    second = await postgres_bench.another()
    created = await asyncio.gather(*(store.create([new]) for store in (postgres_bench.store, second) * 3))
    assert [answered(result) for result in created] == [(new.task,)] * 6
    assert sum(len(result.new) for result in created) == 1
    assert len(await postgres_bench.store.history(new.task.task_id)) == 1


async def test_a_row_is_locked_by_only_one_of_many_relays(postgres_bench: Bench) -> None:
    for _ in range(10):
        await postgres_bench.started()
    await postgres_bench.pass_time(6)
    second = await postgres_bench.another()
    locked = await asyncio.gather(*(store.lock_outbox(10, 60) for store in (postgres_bench.store, second) * 2))
    ids = [row.id for rows in locked for row in rows]
    assert sorted(ids) == list(range(1, 11))


async def test_many_processes_may_migrate_at_once(database_url: str) -> None:
    stores = await asyncio.gather(*(PostgresStore.open(database_url, TTL.__getitem__) for _ in range(3)))
    assert [(await store.counts()).keys() == set(await store.counts()) for store in stores] == [True] * 3
    for store in stores:
        await store.close()


async def test_a_database_of_a_newer_treadle_is_refused(database_url: str) -> None:
    await (await PostgresStore.open(database_url, TTL.__getitem__)).close()
    await execute(database_url, "INSERT INTO schema_migrations VALUES (999, 'a newer one')")
    with pytest.raises(DatabaseTooNew, match="schema 999"):
        await PostgresStore.open(database_url, TTL.__getitem__)


async def test_closed_connections_are_opened_again(postgres_bench: Bench) -> None:
    task = await postgres_bench.created()
    assert await postgres_bench.store.try_lead("reaper")
    await _close_connections(postgres_bench)
    with pytest.raises(StoreUnavailable):
        await postgres_bench.store.try_lead("reaper")
    await _wait_until_available(postgres_bench)
    assert (await postgres_bench.store.task(task.task_id)).task == task
    assert await postgres_bench.store.try_lead("reaper")


async def test_another_process_leads_after_the_connection_of_the_leader_was_closed(postgres_bench: Bench) -> None:
    assert await postgres_bench.store.try_lead("reaper")
    await _close_connections(postgres_bench)
    second = await postgres_bench.another()
    assert await second.try_lead("reaper")
    with pytest.raises(StoreUnavailable):
        await postgres_bench.store.try_lead("reaper")
    assert not await postgres_bench.store.try_lead("reaper")


async def test_a_closed_store_is_unavailable(postgres_bench: Bench) -> None:
    store = await postgres_bench.another()
    await store.close()
    with pytest.raises(StoreUnavailable):
        await store.counts()


async def test_a_character_that_postgresql_does_not_support_is_replaced(postgres_bench: Bench) -> None:
    task = await postgres_bench.started(task_name="b \\u0000")
    await postgres_bench.store.apply([change_of(task, completed(task), reason="because \0")])
    stored = (await postgres_bench.store.task(task.task_id)).task
    assert stored.spec.task_name == "b \\u0000"
    assert (await postgres_bench.store.history(task.task_id))[-1].reason == "because \ufffd"
    assert await postgres_bench.store.dataset("no\0thing") is None


async def test_an_unreachable_database_is_named_without_its_password() -> None:
    with pytest.raises(DatabaseUnavailable, match=r"no database at 127\.0\.0\.1:1/treadle") as caught:
        await Database.open("postgresql://user:secret@127.0.0.1:1/treadle", timeout=0.0)
    assert "secret" not in str(caught.value)


async def test_a_refused_password_is_reported_at_once(postgres_bench: Bench) -> None:
    address = postgres_bench.dsn.rpartition("@")[2]
    with pytest.raises(DatabaseUnavailable, match="password authentication failed"):
        await Database.open(f"postgresql://treadle:wrong@{address}")


@pytest.mark.parametrize("name", ["load", "apply", "create", "lease", "lock_outbox", "expired", "unclaimed"])
async def test_every_look_up_of_a_hot_statement_has_its_index(postgres_bench: Bench, name: str) -> None:
    plan = await _plan(postgres_bench, name)
    assert "Seq Scan" not in plan


async def _plan(bench: Bench, name: str) -> str:
    """The generic plan of a statement with sequential scans disabled, as on large tables."""
    connection = await asyncpg.connect(bench.dsn)
    try:
        await connection.execute("SET enable_seqscan = off; SET plan_cache_mode = force_generic_plan")
        statement = await connection.prepare(queries()[name])
        await connection.execute(f"PREPARE hot AS {queries()[name]}")
        nothing = ", ".join("NULL" for _ in statement.get_parameters())
        rows = await connection.fetch(f"EXPLAIN EXECUTE hot ({nothing})")
    finally:
        await connection.close()
    return "\n".join(row[0] for row in rows)


async def _close_connections(bench: Bench) -> None:
    """Close every other connection to the database, as a restart of the server does."""
    await execute(
        bench.dsn,
        "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
        "WHERE datname = current_database() AND pid <> pg_backend_pid()",
    )


async def _wait_until_available(bench: Bench) -> None:
    """Query the store until its pool has replaced the closed connections."""
    for _ in range(100):
        try:
            await bench.store.counts()
        except StoreUnavailable:
            continue
        return
    raise AssertionError("the store is still unavailable")


async def _wait_for_a_blocked_session(connection: asyncpg.Connection) -> None:
    """Wait until another session is blocked by a lock."""
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    for _ in range(1000):
        if await connection.fetchval(waiting):
            return
    raise AssertionError("no session is blocked by a lock")
