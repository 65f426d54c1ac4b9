"""What both stores know of a task that waits."""

from __future__ import annotations

from dataclasses import replace

from contracts.submissions import PauseTask, ResumeTask
from contracts.tasks import Phase
from tests.build import CLAIM, failed, key_of
from tests.conformance.stores import TTL, WORKER, Bench, change_of


async def test_a_task_without_attempts_has_no_standing(bench: Bench) -> None:
    task = await bench.created()
    assert await bench.store.standing(task.task_id, within=60) is None


async def test_a_standing_is_of_the_newest_attempt_and_knows_the_one_before(bench: Bench) -> None:
    task = await bench.started()
    await bench.claim(key_of(task), CLAIM)
    second = await bench.after(task, failed(task))
    standing = await bench.store.standing(task.task_id, within=60)
    assert standing is not None
    assert standing.before is not None
    assert (standing.run.key, standing.before.key) == (second.key, task.key)
    assert (standing.ttl, standing.pause) == (TTL[Phase.OPTIMIZE], None)
    assert 4.9 < (standing.due_at - standing.now).total_seconds() <= 5.0


async def test_a_standing_counts_the_workers_of_its_phase_that_were_heard_of(bench: Bench) -> None:
    task = await bench.started()
    await bench.store.lease(WORKER.model_copy(update={"worker_id": "gone"}), (), ())
    await bench.pass_time(100)
    for name, slots, busy in (("free", 4, 1), ("full", 2, 2)):
        await bench.store.lease(WORKER.model_copy(update={"worker_id": name, "slots": slots, "busy": busy}), (), ())
    await bench.store.lease(WORKER.model_copy(update={"worker_id": "other", "phase": Phase.TRAIN}), (), ())
    standing = await bench.store.standing(task.task_id, within=60)
    assert standing is not None
    assert (standing.workers, standing.slots, standing.free) == (2, 6, 3)


async def test_a_standing_names_the_newest_pause_while_it_lasts(bench: Bench) -> None:
    task = await bench.started()
    for reason in ("first", "second"):
        change = replace(change_of(task, PauseTask(task_id=task.task_id)), actor="ann", reason=reason)
        await bench.store.apply([change])
        standing = await bench.store.standing(task.task_id, within=60)
        assert standing is not None
        assert standing.pause is not None
        assert (standing.pause.actor, standing.pause.reason) == ("ann", reason)
        task = await bench.after(change.after, ResumeTask(task_id=task.task_id))
    standing = await bench.store.standing(task.task_id, within=60)
    assert standing is not None
    assert standing.pause is None
