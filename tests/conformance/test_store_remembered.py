"""A change to a task that was remembered, and not loaded, is made only where the task is still as it was remembered."""

from __future__ import annotations

from datetime import timedelta
from uuid import uuid4

from contracts.events import LeaseLost
from control.store.port import Change
from control.task import Task
from tests.build import CLAIM, completed, failed, key_of
from tests.conformance.stores import Bench, change_of


async def running(bench: Bench) -> Task:
    """A task whose first attempt is held by CLAIM."""
    task = await bench.started()
    await bench.claim(key_of(task), CLAIM)
    return task


async def remembered(bench: Bench, task: Task) -> Change:
    """The completion of the attempt, decided upon the task as it is now."""
    return change_of(task, completed(task), since=(await bench.store.task(task.task_id)).updated_at)


async def test_it_is_made_where_the_task_was_written_last_then(bench: Bench) -> None:
    change = await remembered(bench, await running(bench))
    applied = await bench.store.apply([change])
    stored = await bench.store.task(change.after.task_id)
    assert (stored.task, applied.made) == (change.after, {change.event.message_id: stored.updated_at})


async def test_it_is_not_made_where_the_same_version_was_written_at_another_time(bench: Bench) -> None:
    task = await running(bench)
    when = (await bench.store.task(task.task_id)).updated_at - timedelta(microseconds=1)
    assert (await bench.store.apply([change_of(task, completed(task), since=when)])).made == {}


async def test_it_is_not_made_where_another_version_was_written(bench: Bench) -> None:
    task = await running(bench)
    change = await remembered(bench, task)
    await bench.after(task, failed(task))
    assert (await bench.store.apply([change])).made == {}


async def test_it_is_not_made_for_a_worker_that_does_not_hold_the_attempt(bench: Bench) -> None:
    task = await bench.started()
    await bench.claim(key_of(task), uuid4())
    assert (await bench.store.apply([await remembered(bench, task)])).made == {}


async def test_it_is_not_made_for_an_attempt_that_nobody_holds(bench: Bench) -> None:
    task = await bench.started()
    assert (await bench.store.apply([await remembered(bench, task)])).made == {}


async def test_it_is_made_for_an_attempt_that_the_store_itself_gave(bench: Bench) -> None:
    task = await running(bench)
    (run,) = await bench.store.runs(task.task_id)
    assert run.claim_id is not None
    event = LeaseLost(key=run.key, claim_id=run.claim_id)
    change = change_of(task, event, since=(await bench.store.task(task.task_id)).updated_at)
    assert (await bench.store.apply([change])).made.keys() == {event.message_id}
