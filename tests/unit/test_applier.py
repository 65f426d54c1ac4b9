"""An event about an attempt is applied once, and only if it comes from the claim that was granted."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import uuid4

import pytest

from contracts.events import NextIteration
from contracts.leases import Claim
from contracts.submissions import KickTask
from control.apply.applier import Applier, EventOutcome
from control.apply.relay import Relay
from control.machine.facts import NotOrdered
from control.machine.task import Task
from control.store.values import MAX_STALE, NewTask
from infra.bus.inprocess import InProcessBus
from tests.build import CLAIM, completed, key_of, new_task, start
from tests.conformance.stores import TTL, WORKER, Clock
from tests.memory_store import MemoryStore
from tests.memory_store.tables import Tables


@asynccontextmanager
async def applying(store: MemoryStore) -> AsyncIterator[Applier]:
    """A running applier on `store`, as in one control process."""
    applier = Applier(store, Relay(store, InProcessBus()), batch_size=10)
    applier.start()
    yield applier
    await applier.stop()


async def running(applier: Applier, store: MemoryStore) -> Task:
    """A task that `applier` has created and started; CLAIM has the lease of its first attempt."""
    task = new_task(task_id=uuid4())
    change = applier.initial_change(task, start(task), actor="user")
    await applier.create([NewTask(task, "digest", "user", change)])
    await store.lease(WORKER, [Claim(key=key_of(change.after), claim_id=CLAIM)], [])
    return change.after


def stores() -> tuple[MemoryStore, MemoryStore]:
    """The stores of two control processes on one database."""
    tables, clock = Tables(), Clock()
    return MemoryStore(TTL.__getitem__, clock, tables), MemoryStore(TTL.__getitem__, clock, tables)


async def test_a_fact_that_arrives_again_is_a_duplicate() -> None:
    store, _ = stores()
    async with applying(store) as applier:
        task = await running(applier, store)
        await applier.submit(completed(task), actor="w")
        answer = await applier.submit(completed(task), actor="w")
    assert answer.outcome is EventOutcome.DUPLICATE


async def test_a_fact_of_another_claim_is_stale() -> None:
    store, _ = stores()
    async with applying(store) as applier:
        task = await running(applier, store)
        event = completed(task).model_copy(update={"claim_id": uuid4()})
        answer = await applier.submit(event, actor="w")
    assert (answer.outcome, answer.task) == (EventOutcome.STALE, task)


async def test_a_fact_about_an_attempt_that_another_process_has_fenced_is_stale() -> None:
    store, other_store = stores()
    async with applying(store) as applier, applying(other_store) as other:
        task = await running(applier, store)
        await other.submit(KickTask(task_id=task.task_id, reason="stuck"), actor="user")
        answer = await applier.submit(completed(task), actor="w")
    assert (answer.outcome, answer.task.attempt) == (EventOutcome.STALE, 2)


async def test_the_first_of_two_simultaneous_submissions_creates_the_task() -> None:
    store, _ = stores()
    async with applying(store) as applier:
        task = new_task(task_id=uuid4())
        other = new_task(task_id=task.task_id, seed=9)
        submitted = [
            NewTask(new, digest, "user", applier.initial_change(new, start(new), actor="user"))
            for new, digest in ((task, "one"), (other, "another"))
        ]
        await applier.create(submitted)
        created = (await store.task(task.task_id)).task
        await store.lease(WORKER, [Claim(key=key_of(created), claim_id=CLAIM)], [])
        answer = await applier.submit(completed(created), actor="w")
    assert answer.task.spec.seed == task.spec.seed


async def test_a_fact_that_was_not_ordered_is_refused_and_the_true_one_is_still_applied() -> None:
    store, _ = stores()
    outcomes: list[EventOutcome] = []
    async with applying(store) as applier:
        applier.on_unchanged(outcomes.append)
        task = await running(applier, store)
        with pytest.raises(NotOrdered):
            await applier.submit(completed(task, splits="optimized/forged"), actor="w")
        answer = await applier.submit(completed(task), actor="w")
    assert (outcomes, answer.outcome) == ([EventOutcome.REFUSED], EventOutcome.APPLIED)
    assert [row.outcome for row in await store.history(task.task_id)] == ["applied"] * 3


async def test_a_fact_that_arrives_before_its_claim_does_not_make_the_true_one_a_duplicate() -> None:
    store, _ = stores()
    async with applying(store) as applier:
        task = new_task(task_id=uuid4())
        change = applier.initial_change(task, start(task), actor="user")
        await applier.create([NewTask(task, "digest", "user", change)])
        with pytest.raises(NotOrdered, match="no worker has claimed"):
            await applier.submit(completed(change.after), actor="w")
        await store.lease(WORKER, [Claim(key=key_of(change.after), claim_id=CLAIM)], [])
        answer = await applier.submit(completed(change.after), actor="w")
    assert answer.outcome is EventOutcome.APPLIED


async def test_a_next_iteration_that_arrives_before_its_time_does_not_make_the_true_one_a_duplicate() -> None:
    store, _ = stores()
    async with applying(store) as applier:
        task = await running(applier, store)
        early = NextIteration(task_id=task.task_id, iteration=1, issued=task.version + 1)
        with pytest.raises(NotOrdered, match="issued"):
            await applier.submit(early, actor="control")
    assert early.message_id not in store.tables.inbox


async def test_a_stale_fact_beyond_the_limit_is_dropped() -> None:
    store, _ = stores()
    async with applying(store) as applier:
        task = await running(applier, store)
        forged = [completed(task).model_copy(update={"claim_id": uuid4()}) for _ in range(MAX_STALE + 1)]
        answers = [await applier.submit(event, actor="w") for event in forged]
    assert [answers[-2].outcome, answers[-1].outcome] == [EventOutcome.STALE, EventOutcome.DROPPED]
