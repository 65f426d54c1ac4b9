"""The README's diagram, walked out of the machine: every status reached, every event that moves it on."""

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
    """Every (from, event, to) that a standard or a continuous task can go through, in a stable order."""
    found: dict[Edge, None] = {}
    for mode in TaskMode:
        for edge in _walk(_task(mode)):
            found.setdefault(edge)
    order = list(TaskStatus)
    return sorted(found, key=lambda e: (order.index(e[0]), order.index(e[2]), e[1]))


def mermaid() -> str:
    """The diagram as Mermaid text; events between the same two statuses share an arrow."""
    arrows: dict[tuple[TaskStatus, TaskStatus], list[str]] = {}
    for source, event, target in edges():
        arrows.setdefault((source, target), []).append(event.replace("_", " "))
    lines = [f"    {s} --> {t}: {', '.join(events)}" for (s, t), events in arrows.items()]
    ends = [f"    {status} --> [*]" for status in TaskStatus if status.terminal]
    return "\n".join(["stateDiagram-v2", "    [*] --> PENDING", *lines, *ends])


def _walk(start: Task) -> Iterator[Edge]:
    """Breadth first over tasks that differ in status, in what is held, or in whether an attempt is live."""
    seen, waiting = {_shape(start)}, [start]
    while waiting:
        task = waiting.pop(0)
        for event in _events(task):
            after = advance(task, event).task
            yield task.status, event.kind, after.status
            if _shape(after) not in seen:
                seen.add(_shape(after))
                waiting.append(after)


def _shape(task: Task) -> tuple[object, ...]:
    return task.status, task.held, task.live, min(task.iteration, 3), min(task.failures, 2)


def _events(task: Task) -> Iterator[MachineEvent]:
    """Samples of every event that this task may be given, and that it does not call stale."""
    for event in _samples(task):
        if task.status in ALLOWED[type(event)] and not advance(task, event).stale:
            yield event


def _samples(task: Task) -> Iterator[MachineEvent]:
    for request in get_args(TaskRequest):
        yield request(task_id=_ID, submission_id=_ID, reason="it is stuck")
    yield NextIteration(task_id=_ID, iteration=max(task.iteration, 1), issued=task.version)
    if task.key is not None:
        yield from _reports(task.key)


def _reports(key: AttemptKey) -> Iterator[MachineEvent]:
    who = {"key": key, "claim_id": _ID, "worker_id": "w"}
    score = Score(metric=Metric.EXACT_MATCH, value=0.5, low=0.4, high=0.6, scored=100)
    match key.phase:
        case Phase.OPTIMIZE:
            yield DataOptimized(**who, dataset=_ROWS, splits="s", rows=1)
        case Phase.TRAIN:
            yield ModelTrained(**who, model=_MODEL, steps=1)
        case Phase.EVALUATE:
            yield ModelEvaluated(**who, report="r", dev=score)
    yield PhaseFailed(**who, failure=FailureKind.PROGRAM_CRASHED, message="")
    yield PhaseFailed(**who, failure=FailureKind.BAD_INPUT, message="")
    yield PhasePaused(**who)
    yield LeaseLost(key=key, claim_id=_ID)


def _task(mode: TaskMode) -> Task:
    spec = TaskSpec(
        mode=mode,
        task_name="",
        user_id=1,
        model_name="",
        model=_MODEL,
        datasets=DatasetRefs(train=_ROWS),
        stop=StopRules(max_iterations=2),
        max_failures=1,
    )
    return Task(_ID, spec)


def main() -> None:
    """Print the diagram: `python -m control.machine.diagram`."""
    print(mermaid())  # noqa: T201  # printing is what it is for


if __name__ == "__main__":
    main()
