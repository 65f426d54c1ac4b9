"""The state machine: `advance(task, event)` returns the next state and the messages to publish.

Pure: no clock, no randomness, no I/O, so the same events always give the same states and messages. A request that the
task's state does not allow raises IllegalTransition; a stale event changes nothing and is marked as stale.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import assert_never

from contracts.events import (
    DataOptimized,
    LeaseLost,
    ModelEvaluated,
    ModelTrained,
    NextIteration,
    PhaseEvent,
    PhaseFailed,
    PhasePaused,
)
from contracts.leases import AttemptSignal, LeaseVerdict
from contracts.submissions import (
    AttemptRequest,
    CancelTask,
    FailTask,
    Intervention,
    KickTask,
    PauseTask,
    ResumeTask,
    RetryTask,
    StartTask,
    TaskRequest,
)
from contracts.tasks import ACTIVE, FailureKind, PauseMode, Phase, TaskStatus
from control.machine.commands import OutboxMessage, command_for, next_iteration
from control.machine.failures import backoff, count_failure
from control.machine.stopping import stop_reason
from control.machine.task import IllegalTransition, IterationResult, IterationState, Task

AttemptEnded = DataOptimized | ModelTrained | ModelEvaluated | PhaseFailed | PhasePaused | LeaseLost
MachineEvent = TaskRequest | AttemptEnded | NextIteration

NOTICES_KEPT = 10
"""The newest iterations whose notices stay in the state, besides the first iteration, which reads the files."""


class AttemptState(StrEnum):
    """The state of an attempt: sent out, running, or how it ended."""

    DISPATCHED = "dispatched"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    PAUSED = "paused"
    LOST = "lost"
    FENCED = "fenced"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class Transition:
    """The result of one event; `ended_as` is set if the event ended the active attempt."""

    task: Task
    messages: tuple[OutboxMessage, ...] = ()
    ended_as: AttemptState | None = None
    signal: AttemptSignal | None = None
    """To be sent to all workers at once, best effort: the answer to the next heartbeat carries the same verdict."""
    stale: bool = False


ALLOWED: dict[type[MachineEvent], frozenset[TaskStatus]] = {
    StartTask: frozenset({TaskStatus.PENDING}),
    PauseTask: ACTIVE | {TaskStatus.LOOPING, TaskStatus.SUSPENDED},
    ResumeTask: frozenset({TaskStatus.SUSPENDED}),
    CancelTask: ACTIVE | {TaskStatus.PENDING, TaskStatus.LOOPING, TaskStatus.SUSPENDED},
    RetryTask: frozenset({TaskStatus.FAILED}),
    KickTask: ACTIVE,
    FailTask: ACTIVE,
    DataOptimized: frozenset({TaskStatus.OPTIMIZING, TaskStatus.SUSPENDED}),
    ModelTrained: frozenset({TaskStatus.TRAINING, TaskStatus.SUSPENDED}),
    ModelEvaluated: frozenset({TaskStatus.EVALUATING, TaskStatus.SUSPENDED}),
    PhaseFailed: ACTIVE | {TaskStatus.SUSPENDED},
    PhasePaused: ACTIVE | {TaskStatus.SUSPENDED},
    LeaseLost: ACTIVE | {TaskStatus.SUSPENDED},
    NextIteration: frozenset({TaskStatus.LOOPING}),
}
"""The statuses in which each event may be applied. In any other, a request is illegal and another event is stale."""


def advance(task: Task, event: MachineEvent) -> Transition:
    """The transition of `task` by `event`. Raises IllegalTransition if the task's state does not allow a request."""
    if task.status not in ALLOWED[type(event)]:
        return _not_allowed(task, event)
    if not isinstance(event, TaskRequest) and not _is_current(task, event):
        return Transition(task, stale=True)
    if isinstance(event, Intervention):
        _require_attempt(task, event)
    task = replace(task, version=task.version + 1, gpu_seconds=task.gpu_seconds + _gpu_seconds(event))
    match event:
        case StartTask():
            return _start_phase(
                replace(task, iteration=1), TaskStatus.OPTIMIZING, task.current, delay=event.after_seconds
            )
        case PauseTask():
            return _pause(_with_checkpoint(task, event), event.mode)
        case ResumeTask():
            return _resume(task)
        case CancelTask():
            return _cancel(task, event.reason)
        case RetryTask():
            return _retry(task, event)
        case KickTask():
            transition = _issue_attempt(_with_checkpoint(task, event), ended_as=AttemptState.FENCED)
            return replace(transition, signal=_fence_signal(task))
        case FailTask():
            transition = _end_failed(_with_checkpoint(task, event), FailureKind.FAILED_BY_HAND, event.reason)
            return replace(transition, signal=_fence_signal(task))
        case DataOptimized() | ModelTrained() | ModelEvaluated():
            return _completed(task, event)
        case PhaseFailed():
            ended_as = AttemptState.LOST if event.failure is FailureKind.LEASE_LOST else AttemptState.FAILED
            return _failed(_with_checkpoint(task, event), event.failure, event.message, ended_as=ended_as)
        case LeaseLost():
            updated = _with_checkpoint(task, event)
            message = "the worker sent no heartbeat and its lease expired"
            return _failed(updated, FailureKind.LEASE_LOST, message, ended_as=AttemptState.LOST)
        case PhasePaused():
            return _paused(_with_checkpoint(task, event))
        case NextIteration():
            return _start_phase(replace(task, iteration=task.iteration + 1), TaskStatus.OPTIMIZING, IterationState())
        case _:
            assert_never(event)


def _not_allowed(task: Task, event: MachineEvent) -> Transition:
    if not isinstance(event, TaskRequest):
        return Transition(task, stale=True)
    allowed = "status " + " or ".join(sorted(ALLOWED[type(event)]))
    raise IllegalTransition(task.task_id, task.status, event.kind, allowed)


def _require_attempt(task: Task, event: Intervention) -> None:
    """A request that names an attempt must not reach a later one: the task may have changed since it was sent."""
    assert task.key is not None, "a task in a phase has an attempt"
    if event.attempt not in {None, task.key.name}:
        needed = f"the task to be at attempt {event.attempt}, but it is at {task.key.name}; name that attempt, or none"
        raise IllegalTransition(task.task_id, task.status, event.kind, needed)


def _is_current(task: Task, event: AttemptEnded | NextIteration) -> bool:
    """Whether the event is about the current iteration, or about the newest attempt while that may still report."""
    if isinstance(event, NextIteration):
        return event.iteration == task.iteration
    return task.attempt_active and event.key == task.key


def _gpu_seconds(event: MachineEvent) -> float:
    return event.gpu_seconds if isinstance(event, PhaseEvent | LeaseLost) else 0.0


def _with_checkpoint(task: Task, event: PhaseFailed | PhasePaused | LeaseLost | AttemptRequest) -> Task:
    """The next attempt goes on from the newest checkpoint, even if an earlier attempt wrote it."""
    return replace(task, checkpoint=event.checkpoint or task.checkpoint)


def _start_phase(
    task: Task, status: TaskStatus, current: IterationState, *, delay: float = 0.0, ended_as: AttemptState | None = None
) -> Transition:
    """Begin a phase without failures and without a checkpoint."""
    fresh = replace(task.without_failures(), status=status, current=current, resume_status=None, checkpoint=None)
    return _issue_attempt(fresh, delay=delay, ended_as=ended_as)


def _issue_attempt(task: Task, *, delay: float = 0.0, ended_as: AttemptState | None = None) -> Transition:
    """Issue the next attempt at the current phase."""
    phase = task.phase
    assert phase is not None, "only a phase has attempts"
    attempts = {**task.current.attempts, phase: task.attempt + 1}
    issued = replace(task, attempt_active=True, current=replace(task.current, attempts=attempts))
    return Transition(issued, (OutboxMessage(command_for(issued), delay),), ended_as)


def _completed(task: Task, event: DataOptimized | ModelTrained | ModelEvaluated) -> Transition:
    task = replace(task, current=_with_notices(task.current, event))
    match event:
        case DataOptimized():
            current = replace(
                task.current, dataset=event.dataset, rows=event.rows, labels=event.labels, actions=event.actions
            )
            return _next_phase(replace(task, splits=event.splits), TaskStatus.TRAINING, current)
        case ModelTrained():
            return _next_phase(task, TaskStatus.EVALUATING, replace(task.current, model=event.model))
        case ModelEvaluated():
            return _evaluated(task, event)
        case _:
            assert_never(event)


def _with_notices(current: IterationState, event: DataOptimized | ModelTrained | ModelEvaluated) -> IterationState:
    """Set the notices of the phase that `event` completes, and drop those of later phases, which will run again."""
    phases = list(Phase)
    earlier = phases[: phases.index(event.key.phase)]
    notices = {phase: known for phase, known in current.notices.items() if phase in earlier}
    return replace(current, notices=notices | ({event.key.phase: event.notices} if event.notices else {}))


def _next_phase(task: Task, status: TaskStatus, current: IterationState) -> Transition:
    """Go to the next phase; a suspended task goes there when it is resumed."""
    if task.status is TaskStatus.SUSPENDED:
        return Transition(_stay_suspended(task, status, current), ended_as=AttemptState.COMPLETED)
    return _start_phase(task, status, current, ended_as=AttemptState.COMPLETED)


def _stay_suspended(task: Task, status: TaskStatus, current: IterationState) -> Task:
    """Keep the task SUSPENDED; its resume goes to `status`."""
    return replace(
        task.without_failures(), resume_status=status, current=current, attempt_active=False, checkpoint=None
    )


def _evaluated(task: Task, event: ModelEvaluated) -> Transition:
    results = _without_old_notices((*task.results, _result(task, event)))
    task = replace(task, results=results, current=replace(task.current, notices={}), attempt_active=False)
    reason = stop_reason(task)
    if reason is not None:
        done = replace(task, status=TaskStatus.COMPLETED, resume_status=None, reason=reason.value)
        return Transition(done, ended_as=AttemptState.COMPLETED)
    if task.status is TaskStatus.SUSPENDED:
        return Transition(_stay_suspended(task, TaskStatus.LOOPING, task.current), ended_as=AttemptState.COMPLETED)
    looping = replace(task, status=TaskStatus.LOOPING)
    return Transition(looping, (OutboxMessage(next_iteration(looping)),), AttemptState.COMPLETED)


def _result(task: Task, event: ModelEvaluated) -> IterationResult:
    current = task.current
    assert current.dataset is not None and current.model is not None, "an evaluation needs rows and a model"
    return IterationResult(
        iteration=task.iteration,
        dataset=current.dataset,
        rows=current.rows,
        labels=current.labels,
        actions=current.actions,
        model=current.model,
        report=event.report,
        dev=event.dev,
        test=event.test,
        notices=current.notices,
    )


def _without_old_notices(results: tuple[IterationResult, ...]) -> tuple[IterationResult, ...]:
    """The results; only the first and the newest keep their notices, so that the state of a long task stays small."""
    old = range(1, len(results) - NOTICES_KEPT)
    return tuple(replace(result, notices={}) if index in old else result for index, result in enumerate(results))


def _failed(task: Task, kind: FailureKind, message: str, *, ended_as: AttemptState = AttemptState.FAILED) -> Transition:
    """Issue another attempt if that may help and failures are left: at once after a lost lease, else after a backoff.

    A suspended task never fails: its resume issues one more attempt, however the last one ended.
    """
    task = replace(
        count_failure(task, kind), attempt_active=False, checkpoint=task.checkpoint if kind.resumable else None
    )
    if task.status is TaskStatus.SUSPENDED:
        return Transition(task, ended_as=ended_as)
    if not kind.retryable or task.failures > task.spec.max_failures:
        return _end_failed(task, kind, message, ended_as=ended_as)
    return _issue_attempt(task, delay=0.0 if ended_as is AttemptState.LOST else backoff(task, kind), ended_as=ended_as)


def _end_failed(
    task: Task, kind: FailureKind, message: str, *, ended_as: AttemptState = AttemptState.FAILED
) -> Transition:
    ended = replace(
        task,
        status=TaskStatus.FAILED,
        resume_status=task.status,
        attempt_active=False,
        reason=kind.value,
        message=message,
    )
    return Transition(ended, ended_as=ended_as)


def _paused(task: Task) -> Transition:
    """The attempt freed its slot. If the task was resumed meanwhile, the next attempt is issued."""
    task = replace(task, attempt_active=False)
    if task.status is TaskStatus.SUSPENDED:
        return Transition(task, ended_as=AttemptState.PAUSED)
    return _issue_attempt(task, ended_as=AttemptState.PAUSED)


def _pause(task: Task, mode: PauseMode) -> Transition:
    """Issue nothing more. A second pause may set another mode for an attempt that still runs."""
    key = task.key if task.attempt_active else None
    pausing = mode is PauseMode.CHECKPOINT
    suspended = replace(
        task, status=TaskStatus.SUSPENDED, resume_status=task.resume_status or task.status, pausing=pausing
    )
    if key is None or mode is PauseMode.DRAIN:
        return Transition(suspended)
    if mode is PauseMode.CHECKPOINT:
        return Transition(suspended, signal=AttemptSignal(key=key, verdict=LeaseVerdict.PAUSE))
    return Transition(
        replace(suspended, attempt_active=False),
        ended_as=AttemptState.FENCED,
        signal=_fence_signal(task),
    )


def _fence_signal(task: Task) -> AttemptSignal:
    assert task.key is not None, "only an attempt that was issued can be fenced"
    return AttemptSignal(key=task.key, verdict=LeaseVerdict.FENCED)


def _resume(task: Task) -> Transition:
    assert task.resume_status is not None, "a suspended task has a previous status"
    resumed = replace(task, status=task.resume_status, resume_status=None, pausing=False)
    if resumed.status is TaskStatus.LOOPING:
        return Transition(resumed, (OutboxMessage(next_iteration(resumed)),))
    if resumed.attempt_active:
        return Transition(resumed, (OutboxMessage(command_for(resumed)),))
    return _issue_attempt(resumed)


def _cancel(task: Task, reason: str | None) -> Transition:
    key = task.key if task.attempt_active else None
    cancelled = replace(
        task,
        status=TaskStatus.CANCELLED,
        resume_status=None,
        attempt_active=False,
        reason="cancelled",
        message=reason,
    )
    if key is None:
        return Transition(cancelled)
    signal = AttemptSignal(key=key, verdict=LeaseVerdict.CANCELLED)
    return Transition(cancelled, ended_as=AttemptState.CANCELLED, signal=signal)


def _retry(task: Task, event: RetryTask) -> Transition:
    """Without a named phase, the failed phase goes on from its checkpoint; a named phase begins without one."""
    phase = event.phase or task.phase
    assert phase is not None and task.phase is not None, "a task fails in a phase"
    order = list(Phase)
    if order.index(phase) > order.index(task.phase):
        needed = f"phase {task.phase}, in which it failed, or an earlier one"
        raise IllegalTransition(task.task_id, task.status, event.kind, needed)
    cleared = replace(
        task,
        resume_status=None,
        status=phase.status,
        failures=0,
        unfit_failures=0,
        hub_failures=0,
        reason=None,
        message=None,
    )
    return _issue_attempt(cleared) if event.phase is None else _start_phase(cleared, phase.status, cleared.current)
