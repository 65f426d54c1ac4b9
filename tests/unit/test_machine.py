"""The table of every status by every event, and the other rules of the state machine."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from contracts.commands import EvaluateModel, OptimizeData, PhaseCommand, TrainModel
from contracts.events import NextIteration
from contracts.leases import LeaseVerdict
from contracts.notices import notice
from contracts.options import OptimizationOptions, StopRules, TimeLimits
from contracts.tasks import FailureKind, PauseMode, Phase, StopReason, TaskMode, TaskStatus
from control.machine.commands import next_iteration
from control.machine.failures import LONGEST_BACKOFF, MAX_HUB_FAILURES, MAX_UNFIT_FAILURES
from control.machine.machine import (
    ALLOWED,
    NOTICES_KEPT,
    AttemptState,
    MachineEvent,
    Transition,
    advance,
)
from control.machine.task import IllegalTransition, Task
from tests.build import (
    TASK,
    cancel,
    complete,
    completed,
    failed,
    fold,
    key_of,
    lost,
    new_task,
    own_checkpoint,
    pause,
    paused,
    resume,
    retry,
    sample_event,
    start,
    started,
)

Ending = Callable[..., MachineEvent]
EVENTS = [str(kind.model_fields["kind"].default) for kind in ALLOWED]

# One row per status and one column per event, in the order of EVENTS. "-" is illegal and "." is stale.
HEADING = (
    "start_task pause_task resume_task cancel_task retry_task kick_task fail_task data_optimized model_trained "
    "model_evaluated phase_failed phase_paused lease_lost next_iteration"
)
TABLE = {
    "PENDING": "OPTIMIZING - - CANCELLED - - - . . . . . . .",
    "OPTIMIZING": "- SUSPENDED - CANCELLED - OPTIMIZING FAILED TRAINING . . OPTIMIZING OPTIMIZING OPTIMIZING .",
    "TRAINING": "- SUSPENDED - CANCELLED - TRAINING FAILED . EVALUATING . TRAINING TRAINING TRAINING .",
    "EVALUATING": "- SUSPENDED - CANCELLED - EVALUATING FAILED . . LOOPING EVALUATING EVALUATING EVALUATING .",
    "LOOPING": "- SUSPENDED - CANCELLED - - - . . . . . . OPTIMIZING",
    "SUSPENDED:OPTIMIZING": "- SUSPENDED OPTIMIZING CANCELLED - - - SUSPENDED . . SUSPENDED SUSPENDED SUSPENDED .",
    "SUSPENDED:TRAINING": "- SUSPENDED TRAINING CANCELLED - - - . SUSPENDED . SUSPENDED SUSPENDED SUSPENDED .",
    "SUSPENDED:EVALUATING": "- SUSPENDED EVALUATING CANCELLED - - - . . SUSPENDED SUSPENDED SUSPENDED SUSPENDED .",
    "SUSPENDED:LOOPING": "- SUSPENDED LOOPING CANCELLED - - - . . . . . . .",
    "COMPLETED": "- - - - - - - . . . . . . .",
    "FAILED": "- - - - OPTIMIZING - - . . . . . . .",
    "CANCELLED": "- - - - - - - . . . . . . .",
}
CELLS = [
    (status, event, answer) for status, row in TABLE.items() for event, answer in zip(EVENTS, row.split(), strict=True)
]


def task_in(place: str) -> Task:
    """A task in the status that `place` names; `SUSPENDED:TRAINING` is a task that was paused in TRAINING."""
    status, _, resume_status = place.partition(":")
    looping = complete(started(), 3)
    match status:
        case "PENDING":
            return new_task()
        case "OPTIMIZING" | "TRAINING" | "EVALUATING":
            return complete(started(), ["OPTIMIZING", "TRAINING", "EVALUATING"].index(status))
        case "LOOPING":
            return looping
        case "SUSPENDED":
            return advance(task_in(resume_status), pause()).task
        case "COMPLETED":
            return complete(started(TaskMode.STANDARD), 3)
        case "FAILED":
            return advance(started(), failed(started(), FailureKind.BAD_INPUT)).task
        case _:
            return advance(started(), cancel()).task


def test_the_table_has_every_status_and_every_event() -> None:
    assert {place.partition(":")[0] for place in TABLE} == set(TaskStatus)
    assert HEADING.split() == EVENTS


@pytest.mark.parametrize(("place", "event", "answer"), CELLS, ids=[f"{s}-{e}" for s, e, _ in CELLS])
def test_every_status_handles_every_event(place: str, event: str, answer: str) -> None:
    task = task_in(place)
    if answer == "-":
        with pytest.raises(IllegalTransition, match=f"is {task.status}: {event} needs"):
            advance(task, sample_event(event, task))
        return
    step = advance(task, sample_event(event, task))
    assert step.stale == (answer == ".")
    assert step.task.status == (task.status if answer == "." else answer)


@pytest.mark.parametrize(("place", "event", "answer"), [c for c in CELLS if c[2] == "."])
def test_a_stale_event_changes_nothing_and_orders_nothing(place: str, event: str, answer: str) -> None:
    task = task_in(place)
    step = advance(task, sample_event(event, task))
    assert (step.task, step.messages, step.ended_as, step.signal) == (task, (), None, None)


@pytest.mark.parametrize(("place", "event", "answer"), [c for c in CELLS if c[2] not in ".-"])
def test_an_applied_event_raises_the_version_by_one(place: str, event: str, answer: str) -> None:
    task = task_in(place)
    assert advance(task, sample_event(event, task)).task.version == task.version + 1


def test_a_standard_task_completes_after_one_evaluation() -> None:
    task = complete(started(TaskMode.STANDARD), 3)
    assert (task.status, task.reason) == (TaskStatus.COMPLETED, StopReason.ONCE_THROUGH)


def test_the_notices_of_a_completed_phase_are_in_the_iteration_at_once() -> None:
    unreadable = notice("unreadable", 2, "2 lines are not JSON", ["train/a.jsonl:3"])
    task = advance(started(), completed(started(), notices=(unreadable,))).task
    assert task.current.notices == {Phase.OPTIMIZE: (unreadable,)}


def test_an_evaluation_moves_the_notices_to_the_result() -> None:
    task = started()
    for _ in Phase:
        assert task.key is not None
        task = advance(task, completed(task, notices=(notice(task.key.phase, 1, "a row"),))).task
    assert task.current.notices == {}
    assert {phase: noted[0].rule for phase, noted in task.results[0].notices.items()} == {p: p.value for p in Phase}


def test_a_phase_that_is_done_again_drops_the_notices_of_the_later_ones() -> None:
    task, noted = started(), (notice("unreadable", 1, "a line"),)
    for _ in range(2):
        task = advance(task, completed(task, notices=noted)).task
    task = fold(task, (failed(task, FailureKind.BAD_INPUT), retry(Phase.OPTIMIZE)))
    assert set(advance(task, completed(task, notices=noted)).task.current.notices) == {Phase.OPTIMIZE}
    assert advance(task, completed(task)).task.current.notices == {}


def test_the_first_and_the_newest_iterations_keep_their_notices() -> None:
    task = started(stop=StopRules(max_iterations=1000))
    for _ in range(NOTICES_KEPT + 5):
        task = advance(task, completed(task, notices=(notice("unreadable", 1, "a line"),))).task
        task = complete(task, 2)
        task = advance(task, next_iteration(task)).task
    with_notices = [result.iteration for result in task.results if result.notices]
    assert with_notices == [1, *range(6, NOTICES_KEPT + 6)]


def test_each_phase_orders_the_next_command_from_what_came_before() -> None:
    task = started()
    messages = []
    for _ in range(2):
        step = advance(task, completed(task))
        messages.append(step.messages[0].message)
        task = step.task
    train, evaluate = messages
    assert isinstance(train, TrainModel)
    assert train.dataset.prefix == f"optimized/{TASK}/1/a1"
    assert isinstance(evaluate, EvaluateModel)
    assert evaluate.model.adapters == (f"models/{TASK}/1/a1",)


def test_the_next_iteration_gets_the_report_the_rows_and_the_splits_of_the_one_before() -> None:
    looping = complete(started(), 3)
    step = advance(looping, sample_event("next_iteration", looping))
    command = step.messages[0].message
    assert isinstance(command, OptimizeData)
    assert command.current is not None
    rows = f"optimized/{TASK}/1/a1"
    assert (command.report, command.current.prefix, command.splits) == (f"evaluations/{TASK}/1/a1", rows, rows)
    assert command.output == f"optimized/{TASK}/2/a1"


def test_looping_orders_its_own_next_iteration() -> None:
    task = complete(started(), 2)
    step = advance(task, completed(task))
    assert isinstance(step.messages[0].message, NextIteration)


def test_an_older_attempt_is_stale() -> None:
    first = started()
    second = advance(first, failed(first)).task
    assert advance(second, completed(first)).stale


def test_a_failure_is_tried_again_later_each_time() -> None:
    task, delays = started(max_failures=10), []
    for _ in range(8):
        step = advance(task, failed(task))
        delays.append(step.messages[0].delay)
        task = step.task
    assert delays == [5.0, 10.0, 20.0, 40.0, 80.0, 160.0, LONGEST_BACKOFF, LONGEST_BACKOFF]
    assert task.attempt == 9


def test_a_lost_lease_is_tried_again_at_once() -> None:
    task = started()
    step = advance(task, lost(task))
    assert (step.messages[0].delay, step.ended_as, step.task.attempt) == (0.0, AttemptState.LOST, 2)


def test_a_failure_by_the_machines_fault_spends_no_budget() -> None:
    step = advance(started(max_failures=0), failed(started(), FailureKind.WORKER_UNFIT))
    assert (step.task.status, step.task.failures, step.task.attempt) == (TaskStatus.OPTIMIZING, 0, 2)
    assert step.ended_as is AttemptState.FAILED


def test_a_failure_by_the_machines_fault_is_tried_again_later_each_time() -> None:
    task, delays = started(), []
    for _ in range(MAX_UNFIT_FAILURES):
        step = advance(task, failed(task, FailureKind.WORKER_UNFIT))
        delays.append(step.messages[0].delay)
        task = step.task
    assert delays == [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, LONGEST_BACKOFF]


def test_many_failures_in_a_row_by_the_machines_fault_spend_the_budget_in_the_end() -> None:
    task = started(max_failures=1)
    for _ in range(MAX_UNFIT_FAILURES + 1):
        task = advance(task, failed(task, FailureKind.WORKER_UNFIT)).task
    assert (task.status, task.failures) == (TaskStatus.OPTIMIZING, 1)
    task = advance(task, failed(task, FailureKind.WORKER_UNFIT)).task
    assert (task.status, task.reason) == (TaskStatus.FAILED, "worker_unfit")


def test_another_end_of_an_attempt_ends_the_row_of_the_machines_faults() -> None:
    task = started(max_failures=100)
    for _ in range(3):
        for _ in range(MAX_UNFIT_FAILURES):
            task = advance(task, failed(task, FailureKind.WORKER_UNFIT)).task
        task = advance(task, failed(task)).task
    assert (task.failures, task.unfit_failures) == (3, 0)


def test_a_new_phase_may_meet_as_many_faults_of_machines() -> None:
    task = started()
    for _ in range(MAX_UNFIT_FAILURES):
        task = advance(task, failed(task, FailureKind.WORKER_UNFIT)).task
    assert advance(task, completed(task)).task.unfit_failures == 0
    drained = advance(advance(task, pause()).task, completed(task)).task
    assert drained.unfit_failures == 0


def test_a_machines_fault_while_paused_spends_no_budget() -> None:
    task = advance(started(), pause()).task
    step = advance(task, failed(task, FailureKind.WORKER_UNFIT))
    assert (step.task.status, step.task.failures, step.messages) == (TaskStatus.SUSPENDED, 0, ())


def test_a_hub_that_is_away_spends_no_budget_and_is_tried_again_later_each_time() -> None:
    task, delays = started(max_failures=0), []
    for _ in range(MAX_HUB_FAILURES):
        step = advance(task, failed(task, FailureKind.HUB_UNAVAILABLE))
        delays.append(step.messages[0].delay)
        task = step.task
    assert (task.status, task.failures, task.attempt) == (TaskStatus.OPTIMIZING, 0, MAX_HUB_FAILURES + 1)
    assert delays[:7] == [5.0, 10.0, 20.0, 40.0, 80.0, 160.0, LONGEST_BACKOFF]
    assert 3 * 3600 < sum(delays) < 5 * 3600


def test_a_hub_that_stays_away_fails_the_task_in_the_end() -> None:
    task = started(max_failures=1)
    for _ in range(MAX_HUB_FAILURES + 1):
        task = advance(task, failed(task, FailureKind.HUB_UNAVAILABLE)).task
    assert (task.status, task.failures) == (TaskStatus.OPTIMIZING, 1)
    task = advance(task, failed(task, FailureKind.HUB_UNAVAILABLE)).task
    assert (task.status, task.reason) == (TaskStatus.FAILED, "hub_unavailable")


def test_failures_of_machines_and_of_the_hub_in_turn_fail_the_task_in_the_end() -> None:
    task, attempts = started(max_failures=0), 0
    while task.status is not TaskStatus.FAILED:
        kind = FailureKind.WORKER_UNFIT if attempts % 2 else FailureKind.HUB_UNAVAILABLE
        task, attempts = advance(task, failed(task, kind)).task, attempts + 1
    assert attempts == 2 * (MAX_UNFIT_FAILURES + 1)


@pytest.mark.parametrize("end", [failed, lost, completed])
def test_another_end_of_an_attempt_ends_the_row_of_the_hubs_failures(end: Callable[[Task], MachineEvent]) -> None:
    task = started()
    for _ in range(3):
        task = advance(task, failed(task, FailureKind.HUB_UNAVAILABLE)).task
    assert task.hub_failures == 3
    assert advance(task, end(task)).task.hub_failures == 0


def test_a_retry_may_meet_as_many_failures_of_the_hub() -> None:
    task = started(max_failures=0)
    while task.status is not TaskStatus.FAILED:
        task = advance(task, failed(task, FailureKind.HUB_UNAVAILABLE)).task
    assert advance(task, retry()).task.hub_failures == 0


@pytest.mark.parametrize(
    "kind",
    [FailureKind.WORKER_UNFIT, FailureKind.HUB_UNAVAILABLE, FailureKind.TIMED_OUT, FailureKind.STALLED],
)
def test_an_attempt_that_its_worker_ended_goes_on_from_its_checkpoint(kind: FailureKind) -> None:
    training = complete(started(), 1)
    step = advance(training, failed(training, kind, checkpoint="models/a1/checkpoint-5"))
    command = step.messages[0].message
    assert isinstance(command, TrainModel)
    assert command.resume_from == "models/a1/checkpoint-5"


@pytest.mark.parametrize("kind", [FailureKind.TIMED_OUT, FailureKind.STALLED])
def test_an_attempt_that_exceeds_a_limit_spends_the_budget(kind: FailureKind) -> None:
    task = started(max_failures=0)
    assert advance(task, failed(task, kind)).task.status is TaskStatus.FAILED


def test_each_command_has_the_limit_of_its_phase() -> None:
    limits = TimeLimits(optimize_seconds=1, train_seconds=2, evaluate_seconds=3, stall_seconds=None)
    task, found = new_task(limits=limits), []
    for event in (start(task), *[None] * 2):
        step = advance(task, event or completed(task))
        command = step.messages[0].message
        assert isinstance(command, PhaseCommand)
        found.append((command.time_limit, command.stall_limit))
        task = step.task
    assert found == [(1.0, None), (2.0, None), (3.0, None)]


def test_failures_beyond_the_budget_fail_the_task_with_the_last_reason() -> None:
    task = started(max_failures=1)
    task = advance(task, failed(task)).task
    task = advance(task, failed(task, FailureKind.OUT_OF_MEMORY)).task
    assert (task.status, task.reason, task.message) == (TaskStatus.FAILED, "out_of_memory", "it broke")


@pytest.mark.parametrize("kind", [k for k in FailureKind if not k.retryable])
def test_a_failure_that_is_not_retryable_fails_the_task_at_once(kind: FailureKind) -> None:
    task = started()
    assert advance(task, failed(task, kind)).task.status is TaskStatus.FAILED


def test_running_out_of_memory_halves_the_batch() -> None:
    task = complete(started(), 1)
    before = advance(started(), completed(started())).messages[0].message
    after = advance(task, failed(task, FailureKind.OUT_OF_MEMORY)).messages[0].message
    assert isinstance(before, TrainModel)
    assert isinstance(after, TrainModel)
    assert after.hyperparameters.tokens_per_batch == before.hyperparameters.tokens_per_batch // 2


def test_a_new_phase_has_its_whole_retry_budget() -> None:
    task = started(max_failures=1)
    task = advance(task, failed(task)).task
    assert advance(task, completed(task)).task.failures == 0


def test_a_drained_attempt_that_completes_moves_the_remembered_phase_on() -> None:
    drained = advance(started(), pause()).task
    done = advance(drained, completed(started()))
    assert (done.task.status, done.task.resume_status, done.messages) == (
        TaskStatus.SUSPENDED,
        TaskStatus.TRAINING,
        (),
    )
    resumed = advance(done.task, resume())
    assert isinstance(resumed.messages[0].message, TrainModel)


def test_a_resume_before_the_drained_attempt_ends_goes_on_with_the_same_attempt() -> None:
    task = started()
    resumed = advance(advance(task, pause()).task, resume())
    assert resumed.task.key == task.key
    assert not advance(resumed.task, completed(task)).stale


def test_a_pause_now_fences_the_attempt() -> None:
    task = started()
    step = advance(task, pause(PauseMode.NOW))
    assert (step.ended_as, step.signal and step.signal.verdict) == (AttemptState.FENCED, LeaseVerdict.FENCED)
    assert advance(step.task, completed(task)).stale
    assert advance(step.task, resume()).task.attempt == 2


def test_a_pause_for_a_checkpoint_goes_on_from_it() -> None:
    training = complete(started(), 1)
    step = advance(training, pause(PauseMode.CHECKPOINT))
    assert step.signal is not None
    assert step.signal.verdict is LeaseVerdict.PAUSE
    resumed = advance(advance(step.task, paused(training)).task, resume())
    command = resumed.messages[0].message
    assert isinstance(command, TrainModel)
    assert (command.resume_from, command.key.attempt) == (own_checkpoint(training), 2)


def test_pauses_do_not_spend_the_retry_budget() -> None:
    training = complete(started(), 1)
    suspended = advance(training, pause(PauseMode.CHECKPOINT)).task
    assert advance(suspended, paused(training)).task.failures == 0


def test_a_loop_paused_between_iterations_continues_after_the_resume() -> None:
    looping = complete(started(), 3)
    suspended = advance(looping, pause()).task
    first = sample_event("next_iteration", looping)
    assert advance(suspended, first).stale
    resumed = advance(suspended, resume())
    second = resumed.messages[0].message
    assert isinstance(second, NextIteration)
    assert second.message_id != first.message_id
    assert advance(resumed.task, second).task.status is TaskStatus.OPTIMIZING


def test_a_cancel_signals_the_running_attempt() -> None:
    task = started()
    step = advance(task, cancel())
    assert (step.ended_as, step.signal and step.signal.key) == (AttemptState.CANCELLED, task.key)


def test_a_retry_goes_back_to_a_phase_of_the_same_iteration_under_a_new_attempt() -> None:
    evaluating = complete(started(), 2)
    failed_task = advance(evaluating, failed(evaluating, FailureKind.BAD_CONFIGURATION)).task
    step = advance(failed_task, retry(Phase.TRAIN))
    assert (step.task.status, step.task.attempt, step.task.reason) == (TaskStatus.TRAINING, 2, None)
    retried = complete(step.task, 1)
    assert key_of(retried).attempt == 2, "the first attempt of the evaluation was issued before the retry"


def test_a_retry_from_a_phase_that_was_not_reached_is_illegal() -> None:
    failed_task = task_in("FAILED")
    with pytest.raises(IllegalTransition, match="phase optimize, in which it failed"):
        advance(failed_task, retry(Phase.TRAIN))


def test_folding_the_history_gives_the_same_task_and_the_same_orders() -> None:
    task, events, messages = new_task(), [], []
    for _ in range(10):
        event = start(task) if task.status is TaskStatus.PENDING else None
        event = event or (
            sample_event("next_iteration", task) if task.status is TaskStatus.LOOPING else completed(task)
        )
        step = advance(task, event)
        events.append(event)
        messages.extend(step.messages)
        task = step.task
    replayed: list[object] = []
    assert fold(new_task(), tuple(events), lambda step: replayed.extend(step.messages)) == task
    assert replayed == messages


def test_gpu_seconds_of_a_lost_attempt_are_counted() -> None:
    task = started()
    assert advance(task, lost(task, gpu_seconds=5.0)).task.gpu_seconds == 5.0


def test_gpu_seconds_of_every_attempt_are_counted() -> None:
    task = started()
    broken = failed(task).model_copy(update={"gpu_seconds": 3.0})
    task = advance(task, broken).task
    done = completed(task).model_copy(update={"gpu_seconds": 4.0})
    assert advance(task, done).task.gpu_seconds == 7.0


def test_the_best_iteration_is_stored_apart_from_the_latest() -> None:
    task = complete(complete(started(), 2), 1, value=0.8)
    task = advance(task, sample_event("next_iteration", task)).task
    task = complete(complete(task, 2), 1, value=0.6)
    assert task.best is not None
    assert task.latest is not None
    assert (task.best.iteration, task.latest.iteration) == (1, 2)


@pytest.mark.parametrize("ended", [failed, lost, paused])
def test_the_next_attempt_goes_on_from_the_checkpoint_of_one_that_ended_early(ended: Ending) -> None:
    training = complete(started(), 1)
    step = advance(training, ended(training, checkpoint="models/a1/checkpoint-5"))
    assert resume_from(step) == "models/a1/checkpoint-5"


@pytest.mark.parametrize("ended", [failed, lost, paused])
def test_an_attempt_that_left_no_checkpoint_does_not_lose_the_one_before(ended: Ending) -> None:
    training = complete(started(), 1)
    second = advance(training, lost(training, "models/a1/checkpoint-5")).task
    assert resume_from(advance(second, ended(second, checkpoint=None))) == "models/a1/checkpoint-5"


def test_a_suspended_task_keeps_the_checkpoint_of_an_attempt_that_was_lost() -> None:
    training = complete(started(), 1)
    suspended = advance(advance(training, pause()).task, lost(training, "models/a1/checkpoint-5")).task
    assert resume_from(advance(suspended, resume())) == "models/a1/checkpoint-5"


def test_an_attempt_after_out_of_memory_starts_without_the_checkpoint_of_the_larger_batch() -> None:
    training = complete(started(), 1)
    second = advance(training, lost(training, "models/a1/checkpoint-5")).task
    step = advance(second, failed(second, FailureKind.OUT_OF_MEMORY, checkpoint="models/a2/checkpoint-7"))
    assert resume_from(step) is None


def resume_from(step: Transition) -> str | None:
    command = step.messages[0].message
    assert isinstance(command, TrainModel)
    return command.resume_from


def test_an_iteration_may_not_draw_more_labels_than_the_budget_has_left() -> None:
    task = started(stop=StopRules(labels=100), optimization=OptimizationOptions(label_budget=80))
    task = advance(task, completed(task, labels=80)).task
    looping = complete(task, 2)
    command = advance(looping, sample_event("next_iteration", looping)).messages[0].message
    assert isinstance(command, OptimizeData)
    assert command.options.label_budget == 20
