"""The context of a waiting task, on both stores."""

from __future__ import annotations

from dataclasses import replace

from contracts.submissions import PauseTask, ResumeTask
from contracts.tasks import Phase
from control.store.values import UNSENT_AFTER, Unfit
from tests.build import CLAIM, failed, key_of
from tests.conformance.stores import TTL, WORKER, Bench, change_of


async def test_a_task_without_attempts_has_no_wait_context(bench: Bench) -> None:
    task = await bench.created()
    assert await bench.store.wait_context(task.task_id, within=60) is None


async def test_a_wait_context_has_the_newest_attempt_and_the_one_before(bench: Bench) -> None:
    task = await bench.started()
    await bench.claim(key_of(task), CLAIM)
    second = await bench.after(task, failed(task))
    wait_context = await bench.store.wait_context(task.task_id, within=60)
    assert wait_context is not None
    assert wait_context.before is not None
    assert (wait_context.attempt.key, wait_context.before.key) == (second.key, task.key)
    assert (wait_context.ttl, wait_context.pause) == (TTL[Phase.OPTIMIZE], None)
    assert 4.9 < (wait_context.due_at - wait_context.now).total_seconds() <= 5.0


async def test_a_wait_context_counts_the_workers_of_its_phase_that_sent_a_request_lately(bench: Bench) -> None:
    task = await bench.started()
    await bench.store.lease(WORKER.model_copy(update={"worker_id": "silent"}), (), ())
    await bench.pass_time(100)
    for name, slots, busy in (("free", 4, 1), ("full", 2, 2)):
        await bench.store.lease(WORKER.model_copy(update={"worker_id": name, "slots": slots, "busy": busy}), (), ())
    await bench.store.lease(WORKER.model_copy(update={"worker_id": "other", "phase": Phase.TRAIN}), (), ())
    wait_context = await bench.store.wait_context(task.task_id, within=60)
    assert wait_context is not None
    assert (wait_context.workers, wait_context.slots, wait_context.free) == (2, 6, 3)


async def test_a_wait_context_names_the_newest_pause_while_it_lasts(bench: Bench) -> None:
    task = await bench.started()
    for reason in ("first", "second"):
        change = replace(change_of(task, PauseTask(task_id=task.task_id)), actor="ann", reason=reason)
        await bench.store.apply([change])
        wait_context = await bench.store.wait_context(task.task_id, within=60)
        assert wait_context is not None
        assert wait_context.pause is not None
        assert (wait_context.pause.actor, wait_context.pause.reason) == ("ann", reason)
        task = await bench.after(change.after, ResumeTask(task_id=task.task_id))
    wait_context = await bench.store.wait_context(task.task_id, within=60)
    assert wait_context is not None
    assert wait_context.pause is None


async def test_a_wait_context_counts_unfit_workers_apart_and_names_the_first(bench: Bench) -> None:
    task = await bench.started()
    for name, unfit in (("b", "has no room"), ("a", "rests"), ("c", None)):
        await bench.store.lease(WORKER.model_copy(update={"worker_id": name, "unfit": unfit}), (), ())
    other = WORKER.model_copy(update={"worker_id": "0", "phase": Phase.TRAIN, "unfit": "is of another phase"})
    await bench.store.lease(other, (), ())
    wait_context = await bench.store.wait_context(task.task_id, within=60)
    assert wait_context is not None
    assert (wait_context.workers, wait_context.slots, wait_context.free) == (1, 1, 1)
    assert wait_context.unfit == Unfit(2, "a", "rests")


async def test_a_wait_context_has_the_time_since_when_the_broker_should_have_taken_the_command(bench: Bench) -> None:
    task = await bench.started()
    at_first = await bench.store.wait_context(task.task_id, within=60)
    await bench.pass_time(UNSENT_AFTER + 1)
    late = await bench.store.wait_context(task.task_id, within=60)
    rows = await bench.store.lock_outbox(10, 60)
    await bench.store.delete_outbox([row.id for row in rows])
    sent = await bench.store.wait_context(task.task_id, within=60)
    assert at_first is not None
    assert late is not None
    assert sent is not None
    assert (at_first.unsent_since, late.unsent_since, sent.unsent_since) == (None, late.due_at, None)
