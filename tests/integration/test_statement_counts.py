"""Limits on the number of SQL statements, which unlike times do not depend on the load of the machine."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from uuid import uuid4

import pytest

from benchmarks.control.noop import completion
from contracts.bounds import MAX_CLAIMS
from contracts.http import StandardTaskRequest
from contracts.leases import Claim, LeaseReply, LeaseRequest, LeaseVerdict, WorkerState
from contracts.submissions import CreateTask, StartTask
from contracts.tasks import Phase, TaskStatus
from contracts.topology import CLAIMS, EVENTS
from contracts.wire import decode, encode
from control.apply.applier import Applier
from control.apply.relay import Relay
from control.store.postgres import PostgresStore
from control.store.values import Dataset, NewTask
from infra.bus.inprocess import InProcessBus
from infra.bus.port import OutgoingMessage
from infra.database import Row, Session
from infra.settings import Settings
from infra.worker.attempt import Attempt
from tests.build import new_task
from tests.eventually import eventually
from tests.integration.control_parts import PuppetWorker, Running, add_dataset, control_running

TASKS = 200
EVENTS_PER_TASK = 4
"""A start and three completions; a creation is not an event of the state machine."""
NOW = datetime(2026, 1, 1, tzinfo=UTC)
WORKER = WorkerState(worker_id="w", phase=Phase.TRAIN, host="test", slots=TASKS, busy=0)


@pytest.fixture
def statements(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The statements that are sent to the database from now on."""
    seen: list[str] = []
    fetch = Session.fetch

    async def counted(self: Session, sql: str, *arguments: object) -> Sequence[Row]:
        seen.append(sql)
        return await fetch(self, sql, *arguments)

    monkeypatch.setattr(Session, "fetch", counted)
    return seen


@pytest.fixture
async def store(database_url: str) -> AsyncIterator[PostgresStore]:
    store = await PostgresStore.open(database_url, Settings().ttl)
    yield store
    await store.close()


@pytest.fixture
async def running(settings: Settings) -> AsyncIterator[Running]:
    bus = InProcessBus()
    await bus.start()
    async with control_running(settings, bus) as running:
        await add_dataset(running.store)
        yield running


async def test_a_batch_of_events_takes_two_statements(store: PostgresStore, statements: list[str]) -> None:
    tasks = [new_task(task_id=uuid4()) for _ in range(50)]
    await store.create([NewTask(task, "digest", "user") for task in tasks])
    applier = Applier(store, Relay(store, InProcessBus()), batch_size=len(tasks))
    statements.clear()
    answers = asyncio.gather(*(applier.submit(StartTask(task_id=task.task_id), actor="user") for task in tasks))
    await asyncio.sleep(0)  # all events must be queued before the applier starts
    applier.start()
    await answers
    await applier.stop()
    assert len(statements) == 2


async def test_under_load_an_event_takes_a_fifth_of_a_statement_at_most(
    running: Running, statements: list[str]
) -> None:
    body = StandardTaskRequest(task_name="n", user_id=1, model_name="/model", dataset_id="raw", auto_start=True)
    workers = {phase: PuppetWorker(running.bus, phase) for phase in Phase}
    for worker in workers.values():
        await worker.start()
    await asyncio.gather(*(running.control.submissions.create(CreateTask(task=body)) for _ in range(TASKS)))
    for worker in workers.values():
        await worker.command(TASKS)
        await complete_together(running, [Attempt(command, {}) for command in worker.commands])

    async def completed() -> bool:
        return (await running.store.counts())[TaskStatus.COMPLETED] == TASKS

    await eventually(completed, f"{TASKS} tasks to be completed")
    assert len([sql for sql in statements if "GROUP BY status" not in sql]) <= 0.2 * TASKS * EVENTS_PER_TASK


@pytest.mark.parametrize(("optimized", "lookups"), [(False, 1), (True, 2)])
async def test_a_dataset_is_looked_up_again_only_if_it_may_be_deleted(
    running: Running, statements: list[str], optimized: bool, lookups: int
) -> None:
    source = "raw" if optimized else None
    await running.store.add_dataset(
        Dataset("rows", "rows", "datasets/1/rows", 1, 1, "training", None, 1, optimized, source, NOW)
    )
    body = StandardTaskRequest(task_name="n", user_id=1, model_name="/model", dataset_id="rows")
    for _ in range(2):
        await running.control.submissions.create(CreateTask(task=body))
    assert len([sql for sql in statements if "FROM datasets" in sql]) == lookups


async def complete_together(running: Running, attempts: Sequence[Attempt]) -> None:
    """Claim all attempts in as few requests as possible, then publish all their events at once, as under load."""
    for first in range(0, len(attempts), MAX_CLAIMS):
        claimed = attempts[first : first + MAX_CLAIMS]
        claims = tuple(Claim(key=attempt.key, claim_id=attempt.claim_id) for attempt in claimed)
        request = LeaseRequest(request_id=uuid4(), worker=WORKER, claims=claims)
        message = OutgoingMessage(
            CLAIMS.name, "claim", encode(request), str(request.message_id), expires=5, persistent=False
        )
        reply = decode(await running.bus.request(message, timeout=5), LeaseReply)
        assert {answer.verdict for answer in reply.answers} == {LeaseVerdict.GRANTED}
    events = [completion(attempt, "w") for attempt in attempts]
    sent = [OutgoingMessage(EVENTS.name, event.kind, encode(event), str(event.message_id)) for event in events]
    assert await running.bus.publish_all(sent) == [None] * len(sent)
