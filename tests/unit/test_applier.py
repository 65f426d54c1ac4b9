"""Facts about attempts: applied once, and only if they come from the worker that holds the attempt."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import uuid4

from contracts.leases import Claim
from contracts.submissions import KickTask
from control.apply.applier import Applier, Outcome
from control.apply.relay import Relay
from control.machine.task import Task
from control.store.port import NewTask
from infra.bus.inprocess import InProcessBus
from tests.build import CLAIM, completed, key_of, new_task, start
from tests.conformance.stores import TTL, WORKER, Clock
from tests.memory_store import MemoryStore
from tests.memory_store.tables import Tables


@asynccontextmanager
async def applying(store: MemoryStore) -> AsyncIterator[Applier]:
    """A control process's applier upon `store`."""
    applier = Applier(store, Relay(store, InProcessBus()), batch_size=10)
    applier.start()
    yield applier
    await applier.stop()


async def running(applier: Applier, store: MemoryStore) -> Task:
    """A task that `applier` has created and started, its first attempt held by CLAIM."""
    task = new_task(task_id=uuid4())
    begin = applier.first(task, start(task), actor="user")
    await applier.create([NewTask(task, "digest", "user", begin)])
    await store.lease(WORKER, [Claim(key=key_of(begin.after), claim_id=CLAIM)], [])
    return begin.after


def stores() -> tuple[MemoryStore, MemoryStore]:
    """Two control processes' stores upon one database."""
    tables, clock = Tables(), Clock()
    return MemoryStore(TTL.__getitem__, clock, tables), MemoryStore(TTL.__getitem__, clock, tables)


async def test_a_fact_that_comes_again_is_known() -> None:
    store, _ = stores()
    async with applying(store) as applier:
        task = await running(applier, store)
        await applier.submit(completed(task), actor="w")
        answer = await applier.submit(completed(task), actor="w")
    assert answer.outcome is Outcome.DUPLICATE


async def test_a_fact_of_another_claim_is_stale() -> None:
    store, _ = stores()
    async with applying(store) as applier:
        task = await running(applier, store)
        event = completed(task).model_copy(update={"claim_id": uuid4()})
        answer = await applier.submit(event, actor="w")
    assert (answer.outcome, answer.task) == (Outcome.STALE, task)


async def test_a_fact_about_an_attempt_that_another_process_has_fenced_is_stale() -> None:
    store, elsewhere = stores()
    async with applying(store) as applier, applying(elsewhere) as other:
        task = await running(applier, store)
        await other.submit(KickTask(task_id=task.task_id, reason="stuck"), actor="user")
        answer = await applier.submit(completed(task), actor="w")
    assert (answer.outcome, answer.task.attempt) == (Outcome.STALE, 2)


async def test_of_a_task_that_is_submitted_twice_at_once_the_first_is_created() -> None:
    store, _ = stores()
    async with applying(store) as applier:
        task = new_task(task_id=uuid4())
        other = new_task(task_id=task.task_id, seed=9)
        both = [
            NewTask(one, digest, "user", applier.first(one, start(one), actor="user"))
            for one, digest in ((task, "one"), (other, "another"))
        ]
        await applier.create(both)
        begun = (await store.task(task.task_id)).task
        await store.lease(WORKER, [Claim(key=key_of(begun), claim_id=CLAIM)], [])
        answer = await applier.submit(completed(begun), actor="w")
    assert answer.task.spec.seed == task.spec.seed
