"""The state machine: `advance(task, event)` gives the next state and what to order.

Pure: no clock, no randomness, no I/O. Folding a task's applied events gives the same state and the same
orders. An illegal request raises and changes nothing; a stale event changes nothing and says so.
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
from contracts.leases import AttemptSignal, Verdict
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
from control.machine.commands import Order, command_for, next_iteration
from control.machine.stopping import stop_reason
from control.machine.task import IllegalTransition, IterationResult, Task, Turn

AttemptEnded = DataOptimized | ModelTrained | ModelEvaluated | PhaseFailed | PhasePaused | LeaseLost
MachineEvent = TaskRequest | AttemptEnded | NextIteration

BACKOFF = 5.0
"""Seconds before the attempt after the first failure; doubled for each further one."""
LONGEST_BACKOFF = 300.0


class RunState(StrEnum):
    """How an attempt stands, or how it ended."""

    DISPATCHED = "dispatched"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    PAUSED = "paused"
    LOST = "lost"
    FENCED = "fenced"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class Step:
    """The answer to one event. `closed` is how the attempt that was live before ended, if it did."""

    task: Task
    orders: tuple[Order, ...] = ()
    closed: RunState | None = None
    signal: AttemptSignal | None = None
    """To be fanned out at once, best effort: the next heartbeat says the same."""
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
"""Where each event may be applied. Elsewhere a request is illegal and a fact is stale."""


def advance(task: Task, event: MachineEvent) -> Step:
    """The next state of `task` after `event`. Raises IllegalTransition for a request it does not allow."""
    if task.status not in ALLOWED[type(event)]:
        return _not_here(task, event)
    if not isinstance(event, TaskRequest) and not _is_current(task, event):
        return Step(task, stale=True)
    if isinstance(event, Intervention):
        _require_attempt(task, event)
    task = replace(task, version=task.version + 1, gpu_seconds=task.gpu_seconds + _spent(event))
    match event:
        case StartTask():
            return _enter(replace(task, iteration=1), TaskStatus.OPTIMIZING, task.turn, delay=event.after_seconds)
        case PauseTask():
            return _pause(_keep(task, event), event.mode)
        case ResumeTask():
            return _resume(task)
        case CancelTask():
            return _cancel(task, event.reason)
        case RetryTask():
            return _retry(task, event)
        case KickTask():
            return replace(_issue(_keep(task, event), closed=RunState.FENCED), signal=_fencing(task))
        case FailTask():
            step = _end_failed(_keep(task, event), FailureKind.FAILED_BY_HAND, event.reason)
            return replace(step, signal=_fencing(task))
        case DataOptimized() | ModelTrained() | ModelEvaluated():
            return _completed(task, event)
        case PhaseFailed():
            return _failed(_keep(task, event), event.failure, event.message)
        case LeaseLost():
            kept = _keep(task, event)
            return _failed(kept, FailureKind.LEASE_LOST, "the worker went silent", closed=RunState.LOST)
        case PhasePaused():
            return _paused(_keep(task, event))
        case NextIteration():
            return _enter(replace(task, iteration=task.iteration + 1), TaskStatus.OPTIMIZING, Turn())
        case _:
            assert_never(event)


def _not_here(task: Task, event: MachineEvent) -> Step:
    if not isinstance(event, TaskRequest):
        return Step(task, stale=True)
    allowed = " or ".join(sorted(ALLOWED[type(event)]))
    raise IllegalTransition(task.task_id, task.status, event.kind, allowed)


def _require_attempt(task: Task, event: Intervention) -> None:
    """Whoever names an attempt means no other: the task may have gone on while the request was on its way."""
    assert task.key is not None, "a task in a phase has an attempt"
    if event.attempt not in {None, task.key.name}:
        needed = f"the task to be at attempt {event.attempt}, and it is at {task.key.name}"
        raise IllegalTransition(task.task_id, task.status, event.kind, needed)


def _is_current(task: Task, event: AttemptEnded | NextIteration) -> bool:
    """Whether a fact is about the newest attempt, and that attempt may still report."""
    if isinstance(event, NextIteration):
        return event.iteration == task.iteration
    return task.live and event.key == task.key


def _spent(event: MachineEvent) -> float:
    return event.gpu_seconds if isinstance(event, PhaseEvent | LeaseLost) else 0.0


def _keep(task: Task, event: PhaseFailed | PhasePaused | LeaseLost | AttemptRequest) -> Task:
    """The next attempt goes on from the newest checkpoint there is, whichever attempt left it."""
    return replace(task, checkpoint=event.checkpoint or task.checkpoint)


def _enter(task: Task, status: TaskStatus, turn: Turn, *, delay: float = 0.0, closed: RunState | None = None) -> Step:
    """Begin a phase afresh: its failures and checkpoint are its own."""
    fresh = replace(task, status=status, turn=turn, held=None, failures=0, memory_failures=0, checkpoint=None)
    return _issue(fresh, delay=delay, closed=closed)


def _issue(task: Task, *, delay: float = 0.0, closed: RunState | None = None) -> Step:
    """Issue the next attempt of the present phase."""
    phase = task.phase
    assert phase is not None, "only a phase has attempts"
    attempts = {**task.turn.attempts, phase: task.attempt + 1}
    issued = replace(task, live=True, turn=replace(task.turn, attempts=attempts))
    return Step(issued, (Order(command_for(issued), delay),), closed)


def _completed(task: Task, event: DataOptimized | ModelTrained | ModelEvaluated) -> Step:
    match event:
        case DataOptimized():
            turn = replace(
                task.turn, dataset=event.dataset, rows=event.rows, labels=event.labels, actions=event.actions
            )
            return _move_on(replace(task, splits=event.splits), TaskStatus.TRAINING, turn)
        case ModelTrained():
            return _move_on(task, TaskStatus.EVALUATING, replace(task.turn, model=event.model))
        case ModelEvaluated():
            return _evaluated(task, event)
        case _:
            assert_never(event)


def _move_on(task: Task, status: TaskStatus, turn: Turn) -> Step:
    """Go to the next phase; a suspended task only remembers it."""
    if task.status is TaskStatus.SUSPENDED:
        return Step(_remember(task, status, turn), closed=RunState.COMPLETED)
    return _enter(task, status, turn, closed=RunState.COMPLETED)


def _remember(task: Task, status: TaskStatus, turn: Turn) -> Task:
    return replace(task, held=status, turn=turn, live=False, failures=0, memory_failures=0, checkpoint=None)


def _evaluated(task: Task, event: ModelEvaluated) -> Step:
    task = replace(task, results=(*task.results, _result(task, event)), live=False)
    reason = stop_reason(task)
    if reason is not None:
        done = replace(task, status=TaskStatus.COMPLETED, held=None, reason=reason.value)
        return Step(done, closed=RunState.COMPLETED)
    if task.status is TaskStatus.SUSPENDED:
        return Step(_remember(task, TaskStatus.LOOPING, task.turn), closed=RunState.COMPLETED)
    looping = replace(task, status=TaskStatus.LOOPING)
    return Step(looping, (Order(next_iteration(looping)),), RunState.COMPLETED)


def _result(task: Task, event: ModelEvaluated) -> IterationResult:
    turn = task.turn
    assert turn.dataset is not None and turn.model is not None, "evaluated without rows or model"
    return IterationResult(
        iteration=task.iteration,
        dataset=turn.dataset,
        rows=turn.rows,
        labels=turn.labels,
        actions=turn.actions,
        model=turn.model,
        report=event.report,
        dev=event.dev,
        test=event.test,
    )


def _failed(task: Task, kind: FailureKind, message: str, *, closed: RunState = RunState.FAILED) -> Step:
    """Try again while that may help and failures are left; a lost lease at once, a failure after a backoff.

    A paused task never fails: whoever resumes it asks for one more attempt, whatever became of the last one.
    """
    task = replace(
        task,
        live=False,
        failures=task.failures + 1,
        memory_failures=task.memory_failures + (kind is FailureKind.OUT_OF_MEMORY),
        checkpoint=task.checkpoint if kind.resumable else None,
    )
    if task.status is TaskStatus.SUSPENDED:
        return Step(task, closed=closed)
    if not kind.retryable or task.failures > task.spec.max_failures:
        return _end_failed(task, kind, message, closed=closed)
    delay = 0.0 if closed is RunState.LOST else min(BACKOFF * 2 ** (task.failures - 1), LONGEST_BACKOFF)
    return _issue(task, delay=delay, closed=closed)


def _end_failed(task: Task, kind: FailureKind, message: str, *, closed: RunState = RunState.FAILED) -> Step:
    ended = replace(task, status=TaskStatus.FAILED, held=task.status, live=False, reason=kind.value, message=message)
    return Step(ended, closed=closed)


def _paused(task: Task) -> Step:
    """The attempt gave its slot back. A task that was resumed meanwhile goes on with the next attempt."""
    task = replace(task, live=False)
    if task.status is TaskStatus.SUSPENDED:
        return Step(task, closed=RunState.PAUSED)
    return _issue(task, closed=RunState.PAUSED)


def _pause(task: Task, mode: PauseMode) -> Step:
    """Order nothing more. Paused again, a task changes its mind about the attempt that was left to end."""
    key = task.key if task.live else None
    pausing = mode is PauseMode.CHECKPOINT
    suspended = replace(task, status=TaskStatus.SUSPENDED, held=task.held or task.status, pausing=pausing)
    if key is None or mode is PauseMode.DRAIN:
        return Step(suspended)
    if mode is PauseMode.CHECKPOINT:
        return Step(suspended, signal=AttemptSignal(key=key, verdict=Verdict.PAUSE))
    return Step(
        replace(suspended, live=False),
        closed=RunState.FENCED,
        signal=_fencing(task),
    )


def _fencing(task: Task) -> AttemptSignal:
    assert task.key is not None, "only an attempt that was issued can be fenced"
    return AttemptSignal(key=task.key, verdict=Verdict.FENCED)


def _resume(task: Task) -> Step:
    assert task.held is not None, "a suspended task remembers where it was"
    resumed = replace(task, status=task.held, held=None, pausing=False)
    if resumed.status is TaskStatus.LOOPING:
        return Step(resumed, (Order(next_iteration(resumed)),))
    if resumed.live:
        return Step(resumed, (Order(command_for(resumed)),))
    return _issue(resumed)


def _cancel(task: Task, reason: str | None) -> Step:
    key = task.key if task.live else None
    cancelled = replace(task, status=TaskStatus.CANCELLED, held=None, live=False, reason="cancelled", message=reason)
    if key is None:
        return Step(cancelled)
    signal = AttemptSignal(key=key, verdict=Verdict.CANCELLED)
    return Step(cancelled, closed=RunState.CANCELLED, signal=signal)


def _retry(task: Task, event: RetryTask) -> Step:
    """Without a phase, the one that failed goes on from its checkpoint; a phase that is named begins afresh."""
    phase = event.phase or task.phase
    assert phase is not None and task.phase is not None, "a task fails in a phase"
    order = list(Phase)
    if order.index(phase) > order.index(task.phase):
        raise IllegalTransition(task.task_id, task.status, event.kind, f"a phase up to {task.phase}, where it failed")
    cleared = replace(task, held=None, status=phase.status, failures=0, reason=None, message=None)
    return _issue(cleared) if event.phase is None else _enter(cleared, phase.status, cleared.turn)
