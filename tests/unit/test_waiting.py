"""Why a task waits: every reason, told from data alone."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from contracts.submissions import StartTask
from contracts.tasks import FailureKind, PauseMode, TaskStatus
from contracts.waiting import WaitingReason, WaitingView
from control.gateway.waiting import waiting
from control.machine.machine import RunState, advance
from control.machine.task import Task
from control.store.port import Pause, Run, Standing
from tests.build import (
    TASK,
    an,
    cancel,
    complete,
    failed,
    key_of,
    lost,
    new_task,
    pause,
    started,
)

NOW = datetime(2026, 1, 1, tzinfo=UTC)
TTL = 45.0


def run_of(task: Task, state: RunState = RunState.DISPATCHED, **more: Any) -> Run:
    """The newest attempt of a task."""
    given: dict[str, Any] = {
        "key": key_of(task),
        "state": state,
        "worker_id": None,
        "claim_id": None,
        "message": None,
        "event": None,
        "input_dataset_id": "raw",
        "fraction": None,
        "created_at": NOW - timedelta(seconds=60),
        "claimed_at": None,
        "lease_expires_at": None,
        "ended_at": None,
    }
    return Run(**given | more)


def running(task: Task, left: float) -> Run:
    """An attempt whose lease ends `left` seconds from now."""
    return run_of(task, RunState.RUNNING, worker_id="gpu-7", lease_expires_at=NOW + timedelta(seconds=left))


def standing(run: Run, **more: Any) -> Standing:
    """Due a minute ago, and one worker is free, unless more is said."""
    given: dict[str, Any] = {
        "due_at": NOW - timedelta(seconds=60),
        "before": None,
        "ttl": TTL,
        "workers": 1,
        "slots": 1,
        "free": 1,
        "pause": None,
    }
    return Standing(now=NOW, run=run, **given | more)


def why(task: Task, found: Standing | None = None) -> WaitingView:
    view = waiting(task, found)
    assert view is not None
    return view


def broken(task: Task, failure: FailureKind) -> Run:
    event = failed(task, failure)
    return run_of(task, RunState.FAILED, event=event.model_dump(mode="json"), message=event.message)


def backing_off(failure: FailureKind) -> tuple[Task, Standing]:
    """A task whose first attempt failed, and whose second is due in ten seconds."""
    first = started()
    second = advance(first, failed(first, failure)).task
    return second, standing(run_of(second), due_at=NOW + timedelta(seconds=10), before=broken(first, failure))


def test_a_task_that_nobody_started_says_so() -> None:
    assert why(new_task()).reason is WaitingReason.NOT_STARTED


def test_a_task_between_two_iterations_has_the_next_one_on_its_way() -> None:
    assert why(complete(started(), 3)).reason is WaitingReason.ON_ITS_WAY


@pytest.mark.parametrize("left", [TTL, TTL / 2])
def test_a_running_task_waits_for_nothing(left: float) -> None:
    task = started()
    assert waiting(task, standing(running(task, left))) is None


def test_a_silent_worker_is_suspect_until_its_lease_ends() -> None:
    task = started()
    view = why(task, standing(running(task, 10)))
    assert (view.reason, view.until) == (WaitingReason.LEASE_SUSPECT, NOW + timedelta(seconds=10))
    assert view.sentence.startswith("no heartbeat from gpu-7 for 35 s")


def test_without_a_worker_it_says_how_to_start_one() -> None:
    task = started()
    view = why(task, standing(run_of(task), workers=0, slots=0, free=0))
    assert (view.reason, view.since) == (WaitingReason.NO_WORKER, NOW - timedelta(seconds=60))
    assert "treadle worker optimizer" in view.sentence


def test_busy_workers_are_counted() -> None:
    task = complete(started(), 1)
    view = why(task, standing(run_of(task), workers=2, slots=4, free=0))
    assert view.reason is WaitingReason.NONE_FREE
    assert view.sentence == "no trainer is free: all of 2 are busy, with 4 slots"


def test_beside_a_free_worker_its_command_is_on_its_way() -> None:
    task = started()
    assert why(task, standing(run_of(task))).reason is WaitingReason.ON_ITS_WAY


def test_a_start_that_is_not_due_is_scheduled() -> None:
    start = StartTask(task_id=TASK, after_seconds=3600)
    task = advance(new_task(), start).task
    due = NOW + timedelta(hours=1)
    view = why(task, standing(run_of(task), due_at=due))
    assert (view.reason, view.until) == (WaitingReason.SCHEDULED, due)


def test_a_backoff_names_the_failure_and_when_it_ends() -> None:
    view = why(*backing_off(FailureKind.PROGRAM_CRASHED))
    assert (view.reason, view.until) == (WaitingReason.BACKING_OFF, NOW + timedelta(seconds=10))
    assert view.sentence == "backing off: attempt 1 failed (program_crashed): it broke, and attempt 2 follows"


def test_a_backoff_after_a_dead_letter_says_where_the_command_is() -> None:
    view = why(*backing_off(FailureKind.DEAD_LETTERED))
    assert (view.reason, view.until) == (WaitingReason.DEAD_LETTERED, NOW + timedelta(seconds=10))


def test_a_task_that_failed_by_dead_letters_waits_for_a_retry() -> None:
    task = started(max_failures=0)
    dead = advance(task, failed(task, FailureKind.DEAD_LETTERED)).task
    assert why(dead).reason is WaitingReason.DEAD_LETTERED


def test_a_pause_names_who_asked_for_it_when_and_why() -> None:
    task = advance(started(), pause()).task
    view = why(task, standing(run_of(task), pause=Pause(NOW, "ann", "the GPU is needed")))
    assert (view.reason, view.since) == (WaitingReason.PAUSED, NOW)
    assert view.sentence == "paused by ann: the GPU is needed"


@pytest.mark.parametrize(
    ("mode", "said"),
    [(PauseMode.DRAIN, "its attempt is left to end"), (PauseMode.CHECKPOINT, "its attempt is writing a checkpoint")],
)
def test_a_pause_says_what_the_running_attempt_does(mode: PauseMode, said: str) -> None:
    task = advance(started(), pause(mode)).task
    assert said in why(task, standing(running(task, TTL), pause=Pause(NOW, "ann", None))).sentence


def test_a_failure_during_a_pause_is_told() -> None:
    first = started()
    task = advance(advance(first, pause()).task, failed(first, FailureKind.BAD_INPUT)).task
    view = why(task, standing(broken(first, FailureKind.BAD_INPUT), pause=Pause(NOW, "ann", None)))
    assert view.sentence == "paused by ann; meanwhile attempt 1 failed (bad_input): it broke"


def test_a_worker_lost_during_a_pause_is_told() -> None:
    first = started()
    task = advance(advance(first, pause()).task, lost(first)).task
    gone = run_of(first, RunState.LOST, event=lost(first).model_dump(mode="json"), message="no heartbeat from gpu-7")
    assert "attempt 1 failed (lease_lost)" in why(task, standing(gone, pause=Pause(NOW, "ann", None))).sentence


def test_a_task_paused_between_two_iterations_is_paused() -> None:
    looping = complete(started(), 3)
    task = advance(looping, pause()).task
    done = run_of(complete(started(), 2), RunState.COMPLETED)
    assert why(task, standing(done, pause=Pause(NOW, "ann", None))).reason is WaitingReason.PAUSED


@pytest.mark.parametrize("ended", [cancel(), an("fail_task", started())])
def test_a_task_that_has_ended_waits_for_nothing(ended: Any) -> None:
    task = advance(started(), ended).task
    assert task.status in {TaskStatus.CANCELLED, TaskStatus.FAILED}
    assert waiting(task, standing(run_of(started(), RunState.CANCELLED))) is None


def test_a_task_that_went_on_between_two_reads_waits_for_nothing() -> None:
    assert waiting(complete(started(), 1), standing(run_of(started()))) is None
