"""Tasks and events for tests, with the least that each needs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any
from uuid import UUID, uuid5

from contracts.events import (
    DataOptimized,
    LeaseLost,
    ModelEvaluated,
    ModelTrained,
    NextIteration,
    PhaseFailed,
    PhasePaused,
)
from contracts.options import Metric
from contracts.report import Score
from contracts.submissions import CancelTask, FailTask, KickTask, PauseTask, ResumeTask, RetryTask, StartTask
from contracts.tasks import (
    AttemptKey,
    DatasetRef,
    DatasetRefs,
    FailureKind,
    ModelSource,
    PauseMode,
    Phase,
    TaskMode,
    TaskSpec,
)
from control.machine.machine import MachineEvent, Step, advance
from control.machine.task import Task

TASK = UUID("11111111-1111-4111-8111-111111111111")
CLAIM = UUID("22222222-2222-4222-8222-222222222222")
ROWS = DatasetRef(dataset_id="raw", prefix="datasets/1/raw")
WHO = {"claim_id": CLAIM, "worker_id": "worker-1"}


def new_task(mode: TaskMode = TaskMode.CONTINUOUS, task_id: UUID = TASK, **spec: Any) -> Task:
    given = {
        "task_name": "a task",
        "user_id": 1,
        "model_name": "/model",
        "model": ModelSource(base="path:/model"),
        "datasets": DatasetRefs(train=ROWS),
        **spec,
    }
    return Task(task_id, TaskSpec(mode=mode, **given))


def request_id(number: int) -> UUID:
    return uuid5(TASK, str(number))


def start(task: Task) -> StartTask:
    return StartTask(task_id=task.task_id, submission_id=request_id(1))


def started(mode: TaskMode = TaskMode.CONTINUOUS, **spec: Any) -> Task:
    task = new_task(mode, **spec)
    return advance(task, start(task)).task


def key_of(task: Task) -> AttemptKey:
    assert task.key is not None
    return task.key


def score(value: float, spread: float = 0.05) -> Score:
    return Score(
        metric=Metric.EXACT_MATCH,
        value=value,
        low=max(0.0, value - spread),
        high=min(1.0, value + spread),
        scored=100,
    )


def completed(task: Task, value: float = 0.5, **more: Any) -> DataOptimized | ModelTrained | ModelEvaluated:
    """The event that completes the phase that `task` is in."""
    key = key_of(task)
    match key.phase:
        case Phase.OPTIMIZE:
            rows = DatasetRef(dataset_id=f"rows-{key.iteration}", prefix=f"optimized/{key.iteration}")
            return DataOptimized(key=key, **WHO, dataset=rows, splits="optimized/1", rows=100, **more)
        case Phase.TRAIN:
            model = ModelSource(base="path:/model", adapters=(f"models/{key.iteration}",))
            return ModelTrained(key=key, **WHO, model=model, steps=10, **more)
        case Phase.EVALUATE:
            return ModelEvaluated(key=key, **WHO, report=f"evaluations/{key.iteration}", dev=score(value), **more)


def failed(task: Task, failure: FailureKind = FailureKind.PROGRAM_CRASHED, **more: Any) -> PhaseFailed:
    return PhaseFailed(key=key_of(task), **WHO, failure=failure, message="it broke", **more)


def paused(task: Task, checkpoint: str | None = "models/checkpoint") -> PhasePaused:
    return PhasePaused(key=key_of(task), **WHO, checkpoint=checkpoint)


def lost(task: Task, checkpoint: str | None = None, *, gpu_seconds: float = 0.0) -> LeaseLost:
    return LeaseLost(key=key_of(task), claim_id=CLAIM, checkpoint=checkpoint, gpu_seconds=gpu_seconds)


def through(task: Task, *events: MachineEvent) -> Task:
    return fold(task, events)


def complete(task: Task, phases: int, value: float = 0.5) -> Task:
    """The task after `phases` more phases have completed."""
    for _ in range(phases):
        task = advance(task, completed(task, value)).task
    return task


def pause(mode: PauseMode = PauseMode.DRAIN) -> PauseTask:
    return PauseTask(task_id=TASK, submission_id=request_id(2), mode=mode)


def resume() -> ResumeTask:
    return ResumeTask(task_id=TASK, submission_id=request_id(3))


def cancel() -> CancelTask:
    return CancelTask(task_id=TASK, submission_id=request_id(4))


def retry(phase: Phase | None = None) -> RetryTask:
    return RetryTask(task_id=TASK, submission_id=request_id(5), phase=phase)


def kick(attempt: str | None = None) -> KickTask:
    return KickTask(task_id=TASK, submission_id=request_id(6), reason="it is stuck", attempt=attempt)


def fail(attempt: str | None = None) -> FailTask:
    return FailTask(task_id=TASK, submission_id=request_id(7), reason="it is stuck", attempt=attempt)


def an(event: str, task: Task) -> MachineEvent:
    """An event of this kind; a fact is about the task's newest attempt wherever it can be."""
    key = task.key or key_of(started())
    of = {phase: key.model_copy(update={"phase": phase}) for phase in Phase}
    samples: list[MachineEvent] = [
        start(task),
        pause(),
        resume(),
        cancel(),
        retry(),
        kick(),
        fail(),
        DataOptimized(key=of[Phase.OPTIMIZE], **WHO, dataset=ROWS, splits="s", rows=1),
        ModelTrained(key=of[Phase.TRAIN], **WHO, model=task.spec.model, steps=1),
        ModelEvaluated(key=of[Phase.EVALUATE], **WHO, report="r", dev=score(0.5)),
        PhaseFailed(key=key, **WHO, failure=FailureKind.PROGRAM_CRASHED, message="it broke"),
        PhasePaused(key=key, **WHO),
        lost(task) if task.key else lost(started()),
        NextIteration(task_id=TASK, iteration=max(task.iteration, 1), issued=task.version),
    ]
    return next(sample for sample in samples if sample.kind == event)


def fold(task: Task, events: Sequence[MachineEvent], seen: Callable[[Step], None] = lambda _: None) -> Task:
    """The state after `events`, each given to `advance`; `seen` is called with every step."""
    for event in events:
        step = advance(task, event)
        seen(step)
        task = step.task
    return task
