"""The status diagram of the README, computed by running the machine from PENDING through every event it accepts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import get_args
from uuid import UUID

from contracts.events import (
    DataOptimized,
    LeaseLost,
    ModelEvaluated,
    ModelTrained,
    NextIteration,
    PhaseFailed,
    PhasePaused,
)
from contracts.options import Metric, StopRules
from contracts.report import Score
from contracts.submissions import TaskRequest
from contracts.tasks import (
    AttemptKey,
    DatasetRef,
    DatasetRefs,
    FailureKind,
    ModelSource,
    Phase,
    TaskMode,
    TaskSpec,
    TaskStatus,
)
from control.machine.machine import ALLOWED, MachineEvent, advance
from control.machine.task import Task

_ID = UUID(int=0)
_ROWS = DatasetRef(dataset_id="rows", prefix="datasets/1/rows")
_MODEL = ModelSource(base="path:/model")

Edge = tuple[TaskStatus, str, TaskStatus]


def edges() -> list[Edge]:
    """Every (from, event, to) of a standard or a continuous task, in a stable order."""
    unique: dict[Edge, None] = {}
    for mode in TaskMode:
        for edge in _walk(_task(mode)):
            unique.setdefault(edge)
    order = list(TaskStatus)
    return sorted(unique, key=lambda e: (order.index(e[0]), order.index(e[2]), e[1]))


def mermaid() -> str:
    """The diagram as Mermaid text, with one arrow for all events between the same two statuses."""
    arrows: dict[tuple[TaskStatus, TaskStatus], list[str]] = {}
    for source, event, target in edges():
        arrows.setdefault((source, target), []).append(event.replace("_", " "))
    lines = [f"    {s} --> {t}: {', '.join(events)}" for (s, t), events in arrows.items()]
    ends = [f"    {status} --> [*]" for status in TaskStatus if status.terminal]
    return "\n".join(["stateDiagram-v2", "    [*] --> PENDING", *lines, *ends])


def _walk(start: Task) -> Iterator[Edge]:
    """The transitions of all reachable tasks, breadth first; tasks with the same `_shape` are visited once."""
    seen, queue = {_shape(start)}, [start]
    while queue:
        task = queue.pop(0)
        for event in _events(task):
            after = advance(task, event).task
            yield task.status, event.kind, after.status
            if _shape(after) not in seen:
                seen.add(_shape(after))
                queue.append(after)


def _shape(task: Task) -> tuple[object, ...]:
    return task.status, task.resume_status, task.attempt_active, min(task.iteration, 3), min(task.failures, 2)


def _events(task: Task) -> Iterator[MachineEvent]:
    """The sample events that this task accepts and that are not stale."""
    for event in _samples(task):
        if task.status in ALLOWED[type(event)] and not advance(task, event).stale:
            yield event


def _samples(task: Task) -> Iterator[MachineEvent]:
    for request in get_args(TaskRequest):
        yield request(task_id=_ID, submission_id=_ID, reason="it is stuck")
    yield NextIteration(task_id=_ID, iteration=max(task.iteration, 1), issued=task.version)
    if task.key is not None:
        yield from _attempt_events(task.key)


def _attempt_events(key: AttemptKey) -> Iterator[MachineEvent]:
    sender = {"key": key, "claim_id": _ID, "worker_id": "w"}
    score = Score(metric=Metric.EXACT_MATCH, value=0.5, low=0.4, high=0.6, scored=100)
    match key.phase:
        case Phase.OPTIMIZE:
            yield DataOptimized(**sender, dataset=_ROWS, splits="s", rows=1)
        case Phase.TRAIN:
            yield ModelTrained(**sender, model=_MODEL, steps=1)
        case Phase.EVALUATE:
            yield ModelEvaluated(**sender, report="r", dev=score)
    yield PhaseFailed(**sender, failure=FailureKind.PROGRAM_CRASHED, message="")
    yield PhaseFailed(**sender, failure=FailureKind.BAD_INPUT, message="")
    yield PhasePaused(**sender)
    yield LeaseLost(key=key, claim_id=_ID)


def _task(mode: TaskMode) -> Task:
    spec = TaskSpec(
        mode=mode,
        task_name="a task",
        user_id=1,
        model_name="a model",
        model=_MODEL,
        datasets=DatasetRefs(train=_ROWS),
        stop=StopRules(max_iterations=2),
        max_failures=1,
    )
    return Task(_ID, spec)


def main() -> None:
    """Print the diagram: `python -m control.machine.diagram`."""
    print(mermaid())  # noqa: T201  # the command prints its result


if __name__ == "__main__":
    main()
