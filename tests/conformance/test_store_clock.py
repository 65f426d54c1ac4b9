"""The times from which the overhead of a task is computed, on both stores."""

from __future__ import annotations

import pytest

from contracts.submissions import ResumeTask, RetryTask
from contracts.tasks import FailureKind, TaskStatus
from control.machine.commands import next_iteration
from control.store.values import AttemptClock, TaskClock
from tests.build import CLAIM, completed, failed, key_of, lost, pause, start
from tests.conformance.stores import Bench, change_of


def seconds(clock: TaskClock, attempt: AttemptClock) -> list[float | None]:
    """The due time, claim and end of an attempt in seconds since the first attempt was due."""
    times = (attempt.due_at, attempt.claimed_at, attempt.ended_at)
    first = clock.attempts[0].due_at
    return [None if each is None else pytest.approx((each - first).total_seconds(), abs=0.5) for each in times]


async def test_a_task_that_has_not_started_has_no_times(bench: Bench) -> None:
    task = await bench.created()
    assert await bench.store.task_clock(task.task_id) == TaskClock()


async def test_a_clock_has_the_times_and_the_work_of_ended_attempts_only(bench: Bench) -> None:
    task = await bench.created()
    task = await bench.after(task, start(task).model_copy(update={"task_id": task.task_id}))
    await bench.pass_time(10)
    await bench.claim(key_of(task), CLAIM)
    assert (await bench.store.task_clock(task.task_id)).attempts == ()
    await bench.pass_time(20)
    task = await bench.after(task, completed(task, work_seconds=15.5))
    clock = await bench.store.task_clock(task.task_id)
    (attempt,) = clock.attempts
    assert attempt.work_seconds == 15.5
    assert seconds(clock, attempt) == [0.0, 10.0, 30.0]


async def test_the_work_of_a_lost_attempt_is_unknown(bench: Bench) -> None:
    task = await bench.started()
    await bench.claim(key_of(task), CLAIM)
    task = await bench.after(task, lost(task))
    (attempt,) = (await bench.store.task_clock(task.task_id)).attempts
    assert attempt.work_seconds is None


async def test_a_clock_has_the_times_in_which_the_task_was_suspended_or_failed(bench: Bench) -> None:
    task = await bench.started()
    task = await bench.after(task, pause().model_copy(update={"task_id": task.task_id}))
    await bench.pass_time(30)
    task = await bench.after(task, ResumeTask(task_id=task.task_id))
    stale = lost(task)
    task = await bench.after(task, failed(task, FailureKind.BAD_INPUT))
    await bench.pass_time(50)
    await bench.store.apply([change_of(task, stale)])
    task = await bench.after(task, RetryTask(task_id=task.task_id))
    task = await bench.after(task, pause().model_copy(update={"task_id": task.task_id, "submission_id": CLAIM}))
    stood = (await bench.store.task_clock(task.task_id)).standstills
    assert [stand.status for stand in stood] == [TaskStatus.SUSPENDED, TaskStatus.FAILED, TaskStatus.SUSPENDED]
    lengths = [stand.ended_at and (stand.ended_at - stand.began_at).total_seconds() for stand in stood]
    assert lengths == [pytest.approx(30, abs=0.5), pytest.approx(50, abs=0.5), None]


async def test_the_attempts_of_one_iteration_are_read_alone(bench: Bench) -> None:
    task = await bench.started()
    for _ in range(3):
        await bench.claim(key_of(task), CLAIM)
        task = await bench.after(task, completed(task))
    task = await bench.after(task, next_iteration(task))
    read = [await bench.store.attempts(task.task_id, iteration=number) for number in (1, 2, 3)]
    assert [[attempt.key.iteration for attempt in attempts] for attempts in read] == [[1, 1, 1], [2], []]
