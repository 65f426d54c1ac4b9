"""Builders of tasks and events for tests; they fill in only the required fields."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any
from uuid import UUID, uuid5

from contracts.artifacts import attempt_prefix, checkpoint_prefix, optimized_dataset_id
from contracts.events import (
    DataOptimized,
    LeaseLost,
    ModelEvaluated,
    ModelTrained,
    NextIteration,
    PhaseFailed,
    PhasePaused,
)
from contracts.options import Method, Metric
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
from control.machine.machine import MachineEvent, Transition, advance
from control.machine.task import Task

TASK = UUID("11111111-1111-4111-8111-111111111111")
CLAIM = UUID("22222222-2222-4222-8222-222222222222")
ROWS = DatasetRef(dataset_id="raw", prefix="datasets/1/raw")
WORKER_FIELDS = {"claim_id": CLAIM, "worker_id": "worker-1"}


def new_task(mode: TaskMode = TaskMode.CONTINUOUS, task_id: UUID = TASK, **spec: Any) -> Task:
    fields = {
        "task_name": "a task",
        "user_id": 1,
        "model_name": "/model",
        "model": ModelSource(base="path:/model"),
        "datasets": DatasetRefs(train=ROWS),
        **spec,
    }
    return Task(task_id, TaskSpec(mode=mode, **fields))


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
    """The event that completes the present phase of `task`."""
    key, own = key_of(task), own_prefix(task)
    match key.phase:
        case Phase.OPTIMIZE:
            rows = DatasetRef(dataset_id=dataset_of(task), prefix=own)
            splits = (task.latest and task.splits) or own
            return DataOptimized(
                **{"key": key, **WORKER_FIELDS, "dataset": rows, "splits": splits, "rows": 100, **more}
            )
        case Phase.TRAIN:
            return ModelTrained(**{"key": key, **WORKER_FIELDS, "model": trained_model(task), "steps": 10, **more})
        case Phase.EVALUATE:
            return ModelEvaluated(**{"key": key, **WORKER_FIELDS, "report": own, "dev": score(value), **more})


def own_prefix(task: Task) -> str:
    """The prefix of the newest attempt."""
    return attempt_prefix(key_of(task))


def dataset_of(task: Task) -> str:
    """The id of the dataset that the newest attempt makes."""
    key = key_of(task)
    return optimized_dataset_id(key.task_id, key.iteration, key.attempt)


def own_checkpoint(task: Task, step: int = 5) -> str:
    """A checkpoint of the newest attempt."""
    return checkpoint_prefix(key_of(task), step)


def trained_model(task: Task) -> ModelSource:
    """The model that the newest attempt trains."""
    own = own_prefix(task)
    if task.spec.hyperparameters.method is Method.FULL:
        return ModelSource(base=f"artifact:{own}")
    return ModelSource(base=task.spec.model.base, adapters=(own,))


def failed(task: Task, failure: FailureKind = FailureKind.PROGRAM_CRASHED, **more: Any) -> PhaseFailed:
    return PhaseFailed(key=key_of(task), **WORKER_FIELDS, failure=failure, message="it broke", **more)


def paused(task: Task, **more: Any) -> PhasePaused:
    return PhasePaused(**{"key": key_of(task), **WORKER_FIELDS, "checkpoint": own_checkpoint(task), **more})


def lost(task: Task, checkpoint: str | None = None, *, gpu_seconds: float = 0.0) -> LeaseLost:
    return LeaseLost(key=key_of(task), claim_id=CLAIM, checkpoint=checkpoint, gpu_seconds=gpu_seconds)


def after_events(task: Task, *events: MachineEvent) -> Task:
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


def sample_event(event: str, task: Task) -> MachineEvent:
    """A sample event of the kind `event`; a worker's event names the newest attempt of `task`, if it has one."""
    key = task.key or key_of(started())
    keys = {phase: key.model_copy(update={"phase": phase}) for phase in Phase}
    samples: list[MachineEvent] = [
        start(task),
        pause(),
        resume(),
        cancel(),
        retry(),
        kick(),
        fail(),
        DataOptimized(key=keys[Phase.OPTIMIZE], **WORKER_FIELDS, dataset=ROWS, splits="s", rows=1),
        ModelTrained(key=keys[Phase.TRAIN], **WORKER_FIELDS, model=task.spec.model, steps=1),
        ModelEvaluated(key=keys[Phase.EVALUATE], **WORKER_FIELDS, report="r", dev=score(0.5)),
        PhaseFailed(key=key, **WORKER_FIELDS, failure=FailureKind.PROGRAM_CRASHED, message="it broke"),
        PhasePaused(key=key, **WORKER_FIELDS),
        lost(task) if task.key else lost(started()),
        NextIteration(task_id=TASK, iteration=max(task.iteration, 1), issued=task.version),
    ]
    return next(sample for sample in samples if sample.kind == event)


def fold(task: Task, events: Sequence[MachineEvent], on_step: Callable[[Transition], None] = lambda _: None) -> Task:
    """The task after all `events`; `on_step` is called with every transition."""
    for event in events:
        step = advance(task, event)
        on_step(step)
        task = step.task
    return task
