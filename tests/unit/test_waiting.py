"""Why a task waits: every reason, derived from the task and its wait context."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from contracts.submissions import StartTask
from contracts.tasks import FailureKind, PauseMode, TaskStatus
from contracts.waiting import WaitingReason, WaitingView
from control.gateway.waiting import waiting
from control.machine.machine import AttemptState, advance
from control.machine.task import Task
from control.store.values import AttemptRecord, Pause, Unfit, WaitContext
from tests.build import (
    TASK,
    cancel,
    complete,
    failed,
    key_of,
    lost,
    new_task,
    pause,
    sample_event,
    started,
)

NOW = datetime(2026, 1, 1, tzinfo=UTC)
TTL = 45.0


def attempt_record(task: Task, state: AttemptState = AttemptState.DISPATCHED, **more: Any) -> AttemptRecord:
    """The newest attempt of a task."""
    fields: dict[str, Any] = {
        "key": key_of(task),
        "state": state,
        "worker_id": None,
        "claim_id": None,
        "message": None,
        "event": None,
        "input_dataset_id": "raw",
        "fraction": None,
        "created_at": NOW - timedelta(seconds=60),
        "due_at": NOW - timedelta(seconds=60),
        "claimed_at": None,
        "lease_expires_at": None,
        "ended_at": None,
    }
    return AttemptRecord(**fields | more)


def running(task: Task, left: float) -> AttemptRecord:
    """An attempt whose lease ends `left` seconds from now."""
    return attempt_record(task, AttemptState.RUNNING, worker_id="gpu-7", lease_expires_at=NOW + timedelta(seconds=left))


def wait_context(attempt: AttemptRecord, **more: Any) -> WaitContext:
    """A context in which the command was due a minute ago and one worker is free; `more` overrides its fields."""
    fields: dict[str, Any] = {
        "due_at": NOW - timedelta(seconds=60),
        "before": None,
        "ttl": TTL,
        "workers": 1,
        "slots": 1,
        "free": 1,
        "pause": None,
    }
    return WaitContext(now=NOW, attempt=attempt, **fields | more)


def why(task: Task, context: WaitContext | None = None) -> WaitingView:
    view = waiting(task, context)
    assert view is not None
    return view


def failed_record(task: Task, failure: FailureKind) -> AttemptRecord:
    event = failed(task, failure)
    return attempt_record(task, AttemptState.FAILED, event=event.model_dump(mode="json"), message=event.message)


def backing_off(failure: FailureKind) -> tuple[Task, WaitContext]:
    """A task whose first attempt failed, and whose second is due in ten seconds."""
    first = started()
    second = advance(first, failed(first, failure)).task
    return second, wait_context(
        attempt_record(second), due_at=NOW + timedelta(seconds=10), before=failed_record(first, failure)
    )


def test_a_task_that_was_not_started_is_reported_as_such() -> None:
    assert why(new_task()).reason is WaitingReason.NOT_STARTED


def test_a_task_between_two_iterations_has_the_next_one_on_its_way() -> None:
    assert why(complete(started(), 3)).reason is WaitingReason.ON_ITS_WAY


@pytest.mark.parametrize("left", [TTL, TTL / 2])
def test_a_running_task_waits_for_nothing(left: float) -> None:
    task = started()
    assert waiting(task, wait_context(running(task, left))) is None


def test_a_silent_worker_is_suspect_until_its_lease_ends() -> None:
    task = started()
    view = why(task, wait_context(running(task, 10)))
    assert (view.reason, view.until) == (WaitingReason.LEASE_LATE, NOW + timedelta(seconds=10))
    assert view.sentence.startswith("no heartbeat from gpu-7 for 35 s")


def test_the_sentence_about_a_missing_worker_says_how_to_start_one() -> None:
    task = started()
    view = why(task, wait_context(attempt_record(task), workers=0, slots=0, free=0))
    assert (view.reason, view.since) == (WaitingReason.NO_WORKER, NOW - timedelta(seconds=60))
    assert "treadle worker optimizer" in view.sentence


def test_busy_workers_are_counted() -> None:
    task = complete(started(), 1)
    view = why(task, wait_context(attempt_record(task), workers=2, slots=4, free=0))
    assert view.reason is WaitingReason.NO_FREE_SLOT
    assert view.sentence == "no trainer has a free slot (workers: 2, slots: 4)"


def test_unfit_workers_are_the_reason_if_no_other_is_there() -> None:
    task = complete(started(), 1)
    unfit = Unfit(3, "gpu-7", "has 12.0 MiB free in /var/lib/treadle, needs 1.0 GiB")
    view = why(task, wait_context(attempt_record(task), workers=0, slots=0, free=0, unfit=unfit))
    assert view.reason is WaitingReason.WORKERS_UNFIT
    assert view.sentence == (
        "no trainer can take it: worker gpu-7 has 12.0 MiB free in /var/lib/treadle, needs 1.0 GiB "
        "(2 more are unfit too; see `treadle doctor`)"
    )


def test_unfit_workers_are_told_beside_busy_ones() -> None:
    task = complete(started(), 1)
    context = wait_context(attempt_record(task), workers=2, slots=4, free=0, unfit=Unfit(1, "gpu-7", "rests for 10 s"))
    view = why(task, context)
    assert view.reason is WaitingReason.NO_FREE_SLOT
    assert view.sentence.endswith("; unfit workers: 1, such as gpu-7, which rests for 10 s")


def test_an_unfit_worker_is_no_reason_while_another_is_free() -> None:
    task = complete(started(), 1)
    view = why(task, wait_context(attempt_record(task), unfit=Unfit(1, "gpu-7", "rests for 10 s")))
    assert view.reason is WaitingReason.ON_ITS_WAY


def test_a_command_is_on_its_way_if_a_worker_is_free() -> None:
    task = started()
    assert why(task, wait_context(attempt_record(task))).reason is WaitingReason.ON_ITS_WAY


def test_a_start_that_is_not_due_is_scheduled() -> None:
    start = StartTask(task_id=TASK, after_seconds=3600)
    task = advance(new_task(), start).task
    due = NOW + timedelta(hours=1)
    view = why(task, wait_context(attempt_record(task), due_at=due))
    assert (view.reason, view.until) == (WaitingReason.SCHEDULED, due)


def test_a_backoff_names_the_failure_and_when_it_ends() -> None:
    view = why(*backing_off(FailureKind.PROGRAM_CRASHED))
    assert (view.reason, view.until) == (WaitingReason.BACKING_OFF, NOW + timedelta(seconds=10))
    assert view.sentence == "attempt 1 failed (program_crashed): it broke; attempt 2 starts after a delay"


def test_a_backoff_after_a_dead_letter_is_reported_as_dead_lettered() -> None:
    view = why(*backing_off(FailureKind.DEAD_LETTERED))
    assert (view.reason, view.until) == (WaitingReason.DEAD_LETTERED, NOW + timedelta(seconds=10))


def test_a_task_that_failed_by_dead_letters_waits_for_a_retry() -> None:
    task = started(max_failures=0)
    failed_task = advance(task, failed(task, FailureKind.DEAD_LETTERED)).task
    assert why(failed_task).reason is WaitingReason.DEAD_LETTERED


def test_a_pause_is_shown_with_its_user_time_and_reason() -> None:
    task = advance(started(), pause()).task
    view = why(task, wait_context(attempt_record(task), pause=Pause(NOW, "ann", "the GPU is needed")))
    assert (view.reason, view.since) == (WaitingReason.PAUSED, NOW)
    assert view.sentence == "paused by ann: the GPU is needed"


@pytest.mark.parametrize(
    ("mode", "text"),
    [(PauseMode.DRAIN, "its attempt runs to its end"), (PauseMode.CHECKPOINT, "its attempt is writing a checkpoint")],
)
def test_the_sentence_about_a_pause_describes_the_running_attempt(mode: PauseMode, text: str) -> None:
    task = advance(started(), pause(mode)).task
    assert text in why(task, wait_context(running(task, TTL), pause=Pause(NOW, "ann", None))).sentence


def test_a_failure_during_a_pause_is_reported() -> None:
    first = started()
    task = advance(advance(first, pause()).task, failed(first, FailureKind.BAD_INPUT)).task
    view = why(task, wait_context(failed_record(first, FailureKind.BAD_INPUT), pause=Pause(NOW, "ann", None)))
    assert view.sentence == "paused by ann; meanwhile attempt 1 failed (bad_input): it broke"


def test_a_worker_lost_during_a_pause_is_reported() -> None:
    first = started()
    task = advance(advance(first, pause()).task, lost(first)).task
    lost_record = attempt_record(
        first, AttemptState.LOST, event=lost(first).model_dump(mode="json"), message="no heartbeat from gpu-7"
    )
    view = why(task, wait_context(lost_record, pause=Pause(NOW, "ann", None)))
    assert "attempt 1 failed (lease_lost)" in view.sentence


def test_a_task_paused_between_two_iterations_is_paused() -> None:
    looping = complete(started(), 3)
    task = advance(looping, pause()).task
    done = attempt_record(complete(started(), 2), AttemptState.COMPLETED)
    assert why(task, wait_context(done, pause=Pause(NOW, "ann", None))).reason is WaitingReason.PAUSED


@pytest.mark.parametrize("ended", [cancel(), sample_event("fail_task", started())])
def test_a_task_that_has_ended_waits_for_nothing(ended: Any) -> None:
    task = advance(started(), ended).task
    assert task.status in {TaskStatus.CANCELLED, TaskStatus.FAILED}
    assert waiting(task, wait_context(attempt_record(started(), AttemptState.CANCELLED))) is None


def test_a_task_that_went_on_between_two_reads_waits_for_nothing() -> None:
    assert waiting(complete(started(), 1), wait_context(attempt_record(started()))) is None


def test_a_command_that_the_broker_does_not_take_is_not_routed_even_if_no_worker_is_connected() -> None:
    task = started()
    since = NOW - timedelta(seconds=12)
    view = why(task, wait_context(attempt_record(task), workers=0, slots=0, free=0, unsent_since=since))
    assert (view.reason, view.since) == (WaitingReason.NOT_ROUTED, since)
    assert view.sentence.startswith("the broker has not taken its command for 12 s: a queue or a binding is missing")


def test_a_next_iteration_that_the_broker_does_not_take_is_not_routed() -> None:
    task = complete(started(), 3)
    view = why(task, wait_context(attempt_record(started()), unsent_since=NOW - timedelta(seconds=4)))
    assert view.reason is WaitingReason.NOT_ROUTED
