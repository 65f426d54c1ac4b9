"""Pause, resume, retry, kick, fail and delayed start, whatever the workers report meanwhile."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.commands import TrainModel
from contracts.errors import UndecodableMessage
from contracts.leases import AttemptSignal, LeaseVerdict
from contracts.submissions import FailTask, KickTask, StartTask
from contracts.tasks import FailureKind, PauseMode, Phase, TaskStatus
from contracts.wire import decode, encode
from control.machine.machine import ALLOWED, AttemptState, Transition, advance
from control.machine.task import IllegalTransition, Task
from tests.build import (
    TASK,
    complete,
    completed,
    fail,
    failed,
    key_of,
    kick,
    lost,
    new_task,
    pause,
    paused,
    resume,
    retry,
    sample_event,
    started,
)

KINDS = [str(kind.model_fields["kind"].default) for kind in ALLOWED]
ANY_EVENTS = st.lists(st.tuples(st.sampled_from(KINDS), st.sampled_from(FailureKind)), max_size=40)


FIRST = f"models/{TASK}/1/a1/checkpoint-5"
"""The checkpoint of the first attempt at training."""


def training_from_a_checkpoint() -> Task:
    """A task whose second attempt at training continues from the checkpoint of the first."""
    training = complete(started(max_failures=0), 1)
    suspended = advance(training, pause(PauseMode.CHECKPOINT)).task
    return advance(advance(suspended, paused(training)).task, resume()).task


def train_command(step: Transition) -> TrainModel:
    command = step.messages[0].message
    assert isinstance(command, TrainModel)
    return command


@given(ANY_EVENTS, st.integers(0, 2))
def test_a_paused_task_never_fails_whatever_happens_to_it(
    events: list[tuple[str, FailureKind]], max_failures: int
) -> None:
    task = started(max_failures=max_failures)
    for kind, failure in events:
        event = failed(task, failure) if kind == "phase_failed" and task.key else sample_event(kind, task)
        try:
            after = advance(task, event).task
        except IllegalTransition:
            continue
        assert (task.status, after.status) != (TaskStatus.SUSPENDED, TaskStatus.FAILED)
        task = after


@pytest.mark.parametrize("kind", [FailureKind.BAD_INPUT, FailureKind.PROGRAM_CRASHED])
def test_a_final_failure_of_a_paused_task_is_tried_once_more_by_the_resume(kind: FailureKind) -> None:
    task = started(max_failures=0)
    step = advance(advance(task, pause()).task, failed(task, kind))
    assert (step.task.status, step.ended_as) == (TaskStatus.SUSPENDED, AttemptState.FAILED)
    resumed = advance(step.task, resume()).task
    assert (resumed.status, resumed.attempt) == (TaskStatus.OPTIMIZING, 2)
    assert advance(resumed, failed(resumed, kind)).task.status is TaskStatus.FAILED


def test_a_worker_lost_while_its_task_is_paused_costs_the_resume_nothing_but_an_attempt() -> None:
    task = started(max_failures=0)
    suspended = advance(advance(task, pause()).task, lost(task)).task
    assert advance(suspended, resume()).task.status is TaskStatus.OPTIMIZING


def test_a_paused_task_may_be_paused_again_to_fence_what_was_left_to_end() -> None:
    task = started()
    draining = advance(task, pause(PauseMode.DRAIN)).task
    step = advance(draining, pause(PauseMode.NOW))
    assert (step.ended_as, step.task.resume_status, step.task.attempt_active) == (
        AttemptState.FENCED,
        TaskStatus.OPTIMIZING,
        False,
    )
    assert advance(step.task, resume()).task.attempt == 2


def test_a_retry_goes_on_from_the_checkpoint_of_the_phase_that_failed() -> None:
    training = training_from_a_checkpoint()
    failed_task = advance(training, failed(training)).task
    command = train_command(advance(failed_task, retry()))
    assert (command.resume_from, command.key.attempt) == (FIRST, 3)


def test_a_retry_that_names_its_phase_begins_it_afresh() -> None:
    training = training_from_a_checkpoint()
    failed_task = advance(training, failed(training)).task
    assert train_command(advance(failed_task, retry(Phase.TRAIN))).resume_from is None


def test_a_retried_phase_has_its_whole_retry_budget() -> None:
    task = started(max_failures=1)
    task = advance(task, failed(task)).task
    failed_task = advance(task, failed(task)).task
    assert advance(failed_task, retry()).task.failures == 0


def test_a_kick_fences_the_attempt_and_issues_the_next_at_once() -> None:
    task = started()
    step = advance(task, kick())
    assert (step.ended_as, step.signal) == (
        AttemptState.FENCED,
        AttemptSignal(key=key_of(task), verdict=LeaseVerdict.FENCED),
    )
    assert (step.task.attempt, step.messages[0].delay) == (2, 0.0)
    assert advance(step.task, completed(task)).stale


def test_a_kick_spends_no_failure() -> None:
    task = started(max_failures=0)
    assert advance(task, kick()).task.failures == 0


def test_a_kick_goes_on_from_the_newest_checkpoint() -> None:
    assert train_command(advance(training_from_a_checkpoint(), kick())).resume_from == FIRST


def test_a_kick_ends_a_backoff() -> None:
    task = started()
    backing_off = advance(task, failed(task))
    assert backing_off.messages[0].delay > 0
    assert advance(backing_off.task, kick()).messages[0].delay == 0


def test_a_task_failed_by_hand_has_its_reason_and_message() -> None:
    task = started()
    step = advance(task, fail())
    assert (step.task.status, step.task.reason, step.task.message) == ("FAILED", "failed_by_hand", "it is stuck")
    assert (step.ended_as, step.signal) == (
        AttemptState.FAILED,
        AttemptSignal(key=key_of(task), verdict=LeaseVerdict.FENCED),
    )


def test_a_task_failed_by_hand_may_be_retried() -> None:
    failed_task = advance(training_from_a_checkpoint(), fail()).task
    assert train_command(advance(failed_task, retry())).resume_from == FIRST


def test_a_delayed_start_orders_its_first_command_for_later() -> None:
    step = advance(new_task(), StartTask(task_id=TASK, after_seconds=7200))
    assert (step.task.status, step.task.attempt) == (TaskStatus.OPTIMIZING, 1)
    assert step.messages[0].delay == 7200


def test_a_kick_begins_a_delayed_start_at_once() -> None:
    task = advance(new_task(), StartTask(task_id=TASK, after_seconds=7200)).task
    assert advance(task, kick()).messages[0].delay == 0


def test_a_kick_goes_on_from_what_the_stuck_attempt_left() -> None:
    stuck = kick().model_copy(update={"checkpoint": "models/newer"})
    assert train_command(advance(training_from_a_checkpoint(), stuck)).resume_from == "models/newer"


Intervene = Callable[[str | None], KickTask | FailTask]


@pytest.mark.parametrize("intervene", [kick, fail])
def test_a_request_that_names_the_present_attempt_is_the_same_as_one_that_names_none(intervene: Intervene) -> None:
    task = complete(started(), 1)
    assert advance(task, intervene("1/train/a1")) == advance(task, intervene(None))


@pytest.mark.parametrize("intervene", [kick, fail])
@pytest.mark.parametrize("named", ["1/optimize/a1", "2/train/a1", "1/train/a1", "1/train/a3"])
def test_a_request_that_names_another_attempt_is_refused(intervene: Intervene, named: str) -> None:
    task = training_from_a_checkpoint()
    with pytest.raises(IllegalTransition, match=f"to be at attempt {named}, but it is at 1/train/a2"):
        advance(task, intervene(named))


def test_a_request_that_names_the_failed_attempt_is_refused_during_the_backoff() -> None:
    task = started()
    backing_off = advance(task, failed(task)).task
    with pytest.raises(IllegalTransition, match="it is at 1/optimize/a2"):
        advance(backing_off, kick("1/optimize/a1"))


@pytest.mark.parametrize(
    "text", ["", "1", "train", "1/train/2", "1/training/a2", "0/train/a1", "1/train/a0", "1/train/a1\n"]
)
@pytest.mark.parametrize("intervene", [kick, fail])
def test_an_attempt_that_is_written_otherwise_is_refused(intervene: Intervene, text: str) -> None:
    request = intervene(None).model_copy(update={"attempt": text})
    with pytest.raises(UndecodableMessage, match=r"^attempt: .*expected iteration/phase/aN, such as 1/train/a2"):
        decode(encode(request), type(request))
