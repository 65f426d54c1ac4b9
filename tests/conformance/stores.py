"""Both stores behind one bench, with what tests do to them again and again."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest
import pytest_asyncio

from contracts.leases import Claim, Heartbeat, LeaseAnswer, Verdict, WorkerState
from contracts.tasks import AttemptKey, Phase, TaskMode
from control.machine.machine import MachineEvent, advance
from control.machine.task import Task
from control.store.port import Applied, Change, NewTask, Store
from control.store.postgres import PostgresStore
from tests.build import new_task, start
from tests.memory_store import MemoryStore
from tests.memory_store.tables import Tables

TTL = {Phase.OPTIMIZE: 15.0, Phase.TRAIN: 45.0, Phase.EVALUATE: 15.0}
WORKER = WorkerState(worker_id="worker-1", phase=Phase.OPTIMIZE, host="a-host", slots=1, busy=0)
SHIFT = """
SET session_replication_role = replica;
UPDATE tasks SET created_at = created_at - delta, updated_at = updated_at - delta;
UPDATE outbox SET available_at = available_at - delta, held_until = held_until - delta;
UPDATE phase_runs SET ordered_at = ordered_at - delta, lease_expires_at = lease_expires_at - delta,
                      ended_at = ended_at - delta;
UPDATE inbox SET at = at - delta;
UPDATE workers SET seen_at = seen_at - delta;
"""

WIPE = """
SET session_replication_role = replica;
TRUNCATE tasks, phase_runs, task_events, datasets, models, outbox, inbox, workers RESTART IDENTITY CASCADE;
"""


@dataclass
class Bench:
    """A store, a way to open another upon the same data, and a way to let time pass."""

    store: Store
    another: Callable[[], Awaitable[Store]]
    pass_time: Callable[[float], Awaitable[None]]
    dsn: str = ""

    async def created(self, mode: TaskMode = TaskMode.CONTINUOUS, task_id: UUID | None = None, **spec: Any) -> Task:
        """A PENDING task, in the store."""
        task = new_task(mode, task_id or uuid4(), **spec)
        await self.store.create([NewTask(task, "digest", "user")])
        return task

    async def started(self, **given: Any) -> Task:
        """A task whose first attempt is dispatched."""
        task = await self.created(**given)
        return await self.after(task, start(task))

    async def after(self, task: Task, *events: MachineEvent) -> Task:
        """The task after these events, each decided by the machine and applied."""
        for event in events:
            change = change_of(task, event)
            applied = await self.store.apply([change])
            assert applied.made == {event.message_id}
            task = change.after
        return task

    async def claim(self, key: AttemptKey, claim_id: UUID) -> Verdict:
        """The verdict of one claim."""
        (answer,) = await self.lease(Claim(key=key, claim_id=claim_id))
        return answer.verdict

    async def beat(self, key: AttemptKey, claim_id: UUID, **more: Any) -> Verdict:
        """The verdict of one heartbeat."""
        (answer,) = await self.lease(Heartbeat(key=key, claim_id=claim_id, **more))
        return answer.verdict

    async def lease(self, *asked: Claim | Heartbeat) -> list[LeaseAnswer]:
        """The answers to claims and heartbeats of one request."""
        claims = [one for one in asked if isinstance(one, Claim)]
        beats = [one for one in asked if isinstance(one, Heartbeat)]
        return await self.store.lease(WORKER, claims, beats)


def change_of(task: Task, event: MachineEvent, **more: Any) -> Change:
    """What the machine decides."""
    step = advance(task, event)
    change = Change(
        before=task,
        after=step.task,
        event=event,
        actor="tester",
        reason=None,
        stale=step.stale,
        orders=step.orders,
        closed=step.closed,
        headers={"traceparent": "00-1-1-01"},
    )
    return replace(change, **more)


async def applied_with(store: Store, task: Task, event: MachineEvent) -> Applied:
    """What became of one event."""
    return await store.apply([change_of(task, event)])


@dataclass
class Clock:
    """Time that passes when a test says so, and a microsecond at every look."""

    at: datetime = field(default_factory=lambda: datetime(2026, 1, 1, tzinfo=UTC))

    def __call__(self) -> datetime:
        self.at += timedelta(microseconds=1)
        return self.at

    async def pass_time(self, seconds: float) -> None:
        self.at += timedelta(seconds=seconds)


def memory_bench() -> Bench:
    """A bench in memory."""
    tables, clock = Tables(), Clock()

    async def another() -> Store:
        return MemoryStore(TTL.__getitem__, clock, tables)

    return Bench(MemoryStore(TTL.__getitem__, clock, tables), another, clock.pass_time)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def store_database(postgres: str) -> str:
    """One database for all tests of the store: emptying it is far quicker than making another."""
    await execute(postgres, "CREATE DATABASE store_conformance")
    return postgres.rpartition("/")[0] + "/store_conformance"


@pytest_asyncio.fixture
async def postgres_bench(store_database: str) -> AsyncIterator[Bench]:
    """A bench on an empty PostgreSQL database; time passes there by moving every row into the past."""
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
    """Run statements past the store."""
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(script)
    finally:
        await connection.close()


@pytest.fixture(params=["memory", "postgres"])
def bench(request: pytest.FixtureRequest) -> Bench:
    """One bench after the other: every test that asks for it runs on both stores."""
    found: Bench = memory_bench() if request.param == "memory" else request.getfixturevalue("postgres_bench")
    return found
