"""Facts are decided upon tasks as they are remembered; what was remembered wrongly is loaded, and decided again."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from uuid import UUID, uuid4

from contracts.leases import Claim
from contracts.submissions import KickTask
from control.applier import Applier, Outcome
from control.relay import Relay
from control.store.memory import MemoryStore
from control.store.memory_tables import Tables
from control.store.port import Loaded, NewTask
from control.task import Task
from infra.bus.inprocess import InProcessBus
from tests.build import CLAIM, completed, key_of, new_task, start
from tests.conformance.stores import TTL, WORKER, Clock


class Store(MemoryStore):
    """A store that counts the tasks that are loaded."""

    loads = 0

    async def load(self, wanted: Sequence[tuple[UUID, UUID]]) -> list[Loaded | None]:
        self.loads += len(wanted)
        return await super().load(wanted)


@asynccontextmanager
async def applying(store: Store) -> AsyncIterator[Applier]:
    """A control process's applier upon `store`."""
    applier = Applier(store, Relay(store, InProcessBus()), batch_size=10)
    applier.start()
    yield applier
    await applier.stop()


async def running(applier: Applier, store: Store) -> Task:
    """A task that `applier` has created and started, its first attempt held by CLAIM."""
    task = new_task(task_id=uuid4())
    begin = applier.first(task, start(task), actor="user")
    await applier.create([NewTask(task, "digest", "user", begin)])
    await store.lease(WORKER, [Claim(key=key_of(begin.after), claim_id=CLAIM)], [])
    return begin.after


def stores() -> tuple[Store, Store]:
    """Two control processes' stores upon one database."""
    tables, clock = Tables(), Clock()
    return Store(TTL.__getitem__, clock, tables), Store(TTL.__getitem__, clock, tables)


async def test_a_fact_about_a_task_that_is_remembered_loads_nothing() -> None:
    store, _ = stores()
    async with applying(store) as applier:
        task = await running(applier, store)
        answer = await applier.submit(completed(task), actor="w")
    assert (answer.outcome, store.loads) == (Outcome.APPLIED, 0)


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


async def test_a_task_that_is_submitted_twice_at_once_is_remembered_as_it_was_created() -> None:
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
