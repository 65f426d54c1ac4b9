"""A test bench for both stores, with the operations that many tests use."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest
import pytest_asyncio

from contracts.leases import Claim, Heartbeat, LeaseAnswer, LeaseVerdict, WorkerState
from contracts.tasks import AttemptKey, Phase, TaskMode
from control.machine.machine import MachineEvent, advance
from control.machine.task import Task
from control.store.port import Store
from control.store.postgres import PostgresStore
from control.store.values import Applied, Change, Created, NewTask, StoredTask, SubmissionConflict
from tests.build import new_task, start
from tests.memory_store import MemoryStore
from tests.memory_store.tables import Tables

TTL = {Phase.OPTIMIZE: 15.0, Phase.TRAIN: 45.0, Phase.EVALUATE: 15.0}
WORKER = WorkerState(worker_id="worker-1", phase=Phase.OPTIMIZE, host="a-host", slots=1, busy=0)
SHIFT = """
SET session_replication_role = replica;
UPDATE tasks SET created_at = created_at - delta, updated_at = updated_at - delta;
UPDATE outbox SET available_at = available_at - delta, locked_until = locked_until - delta;
UPDATE attempts SET created_at = created_at - delta, due_at = due_at - delta, claimed_at = claimed_at - delta,
                      lease_expires_at = lease_expires_at - delta, ended_at = ended_at - delta,
                      cleaned_at = cleaned_at - delta;
UPDATE task_events SET at = at - delta;
UPDATE inbox SET at = at - delta;
UPDATE workers SET seen_at = seen_at - delta;
"""

WIPE = """
SET session_replication_role = replica;
TRUNCATE tasks, attempts, task_events, datasets, models, outbox, inbox, workers RESTART IDENTITY CASCADE;
"""


@dataclass
class Bench:
    """A store, with functions that open another one on the same data and let time pass."""

    store: Store
    another: Callable[[], Awaitable[Store]]
    pass_time: Callable[[float], Awaitable[None]]
    dsn: str = ""

    async def created(self, mode: TaskMode = TaskMode.CONTINUOUS, task_id: UUID | None = None, **spec: Any) -> Task:
        """Create a PENDING task in the store."""
        task = new_task(mode, task_id or uuid4(), **spec)
        await self.store.create([NewTask(task, "digest", "user")])
        return task

    async def started(self, **spec: Any) -> Task:
        """Create and start a task, so that its first attempt is dispatched."""
        task = await self.created(**spec)
        return await self.after(task, start(task))

    async def after(self, task: Task, *events: MachineEvent) -> Task:
        """Let the machine decide each event, apply the changes, and return the task after them."""
        for event in events:
            change = change_of(task, event)
            applied = await self.store.apply([change])
            assert set(applied.tasks) == {event.message_id}
            task = change.after
        return task

    async def claim(self, key: AttemptKey, claim_id: UUID) -> LeaseVerdict:
        """Send one claim and return its verdict."""
        (answer,) = await self.lease(Claim(key=key, claim_id=claim_id))
        return answer.verdict

    async def heartbeat(self, key: AttemptKey, claim_id: UUID, **more: Any) -> LeaseVerdict:
        """Send one heartbeat and return its verdict."""
        (answer,) = await self.lease(Heartbeat(key=key, claim_id=claim_id, **more))
        return answer.verdict

    async def lease(self, *requests: Claim | Heartbeat) -> list[LeaseAnswer]:
        """Send claims and heartbeats in one request and return the answers."""
        claims = [request for request in requests if isinstance(request, Claim)]
        heartbeats = [request for request in requests if isinstance(request, Heartbeat)]
        return await self.store.lease(WORKER, claims, heartbeats)


def answered(created: Created) -> tuple[Task | SubmissionConflict, ...]:
    """The answers to a creation, without the times of the tasks."""
    return tuple(answer.task if isinstance(answer, StoredTask) else answer for answer in created.answers)


def change_of(task: Task, event: MachineEvent, **more: Any) -> Change:
    """The change that the machine decides for an event."""
    transition = advance(task, event)
    change = Change(
        before=task,
        after=transition.task,
        event=event,
        actor="tester",
        reason=None,
        stale=transition.stale,
        messages=transition.messages,
        ended_as=transition.ended_as,
        headers={"traceparent": "00-1-1-01"},
    )
    return replace(change, **more)


async def applied_with(store: Store, task: Task, event: MachineEvent) -> Applied:
    """Decide and apply one event."""
    return await store.apply([change_of(task, event)])


@dataclass
class Clock:
    """A clock that a test moves, and that moves by a microsecond at every reading."""

    at: datetime = field(default_factory=lambda: datetime(2026, 1, 1, tzinfo=UTC))

    def __call__(self) -> datetime:
        self.at += timedelta(microseconds=1)
        return self.at

    async def pass_time(self, seconds: float) -> None:
        self.at += timedelta(seconds=seconds)


def memory_bench() -> Bench:
    """A bench on the in-memory store."""
    tables, clock = Tables(), Clock()

    async def another() -> Store:
        return MemoryStore(TTL.__getitem__, clock, tables)

    return Bench(MemoryStore(TTL.__getitem__, clock, tables), another, clock.pass_time)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def store_database(postgres: str) -> str:
    """One database for all tests of the store, because emptying it is faster than creating another."""
    await execute(postgres, "CREATE DATABASE store_conformance")
    return postgres.rpartition("/")[0] + "/store_conformance"


@pytest_asyncio.fixture
async def postgres_bench(store_database: str) -> AsyncIterator[Bench]:
    """A bench on an empty PostgreSQL database, on which time passes by moving every row into the past."""
    opened: list[Store] = []

    async def another() -> Store:
        opened.append(await PostgresStore.open(store_database, TTL.__getitem__))
        return opened[-1]

    async def pass_time(seconds: float) -> None:
        await execute(store_database, SHIFT.replace("delta", f"make_interval(secs => {seconds})"))

    yield Bench(await another(), another, pass_time, store_database)
    for store in opened:
        await store.close()
    await execute(store_database, WIPE)


async def execute(dsn: str, script: str) -> None:
    """Execute SQL on the database directly, without the store."""
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(script)
    finally:
        await connection.close()


@pytest.fixture(params=["memory", "postgres"])
def bench(request: pytest.FixtureRequest) -> Bench:
    """Each bench in turn, so that every test with this fixture runs on both stores."""
    selected: Bench = memory_bench() if request.param == "memory" else request.getfixturevalue("postgres_bench")
    return selected
