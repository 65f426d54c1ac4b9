"""Compares the facts in an event with what control ordered: every location in an event follows from its command.

An event can be forged, so nothing that a later command contains is taken from one without this check.
It is no part of `advance`, so that recorded histories are replayed as they are.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from contracts.artifacts import attempt_prefix, optimized_dataset_id, writer_of
from contracts.bounds import cut
from contracts.errors import TreadleError
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
from contracts.options import Method
from contracts.tasks import AttemptKey, DatasetRef, ModelSource
from control.machine.commands import label_budget
from control.machine.machine import MachineEvent
from control.machine.task import Task

MAX_SHOWN = 200
"""Maximum characters of a wrong value in an error."""

Fact = tuple[str, Any, Sequence[Any]]
"""The name of a field, its value, and the values that the command allows."""


class NotOrdered(TreadleError):
    """A fact in an event differs from what control ordered, so the event is not applied."""


def require_ordered(task: Task, event: MachineEvent) -> None:
    """Raise NotOrdered if a fact in an event about the newest attempt or the next iteration cannot be true.

    An event about another attempt is not checked, because the machine does not apply it.
    """
    if isinstance(event, NextIteration) and event.issued > task.version:
        raise NotOrdered(f"issued is {event.issued}, but the task is at version {task.version}")
    if not isinstance(event, PhaseEvent | LeaseLost) or event.key != task.key:
        return
    for field, value, allowed in _facts(task, event):
        if value not in allowed:
            raise NotOrdered(f"{field} is {cut(str(value), MAX_SHOWN)}, but its command allows only {_named(allowed)}")


def own_checkpoint(key: AttemptKey, checkpoint: str | None) -> str | None:
    """The checkpoint, or None if it is not one of this attempt: a wrong checkpoint costs steps only."""
    return checkpoint if checkpoint is not None and writer_of(checkpoint) == key else None


def _facts(task: Task, event: PhaseEvent | LeaseLost) -> Iterator[Fact]:
    own, spec = attempt_prefix(event.key), task.spec
    match event:
        case DataOptimized():
            yield "dataset", event.dataset, (DatasetRef(dataset_id=_dataset_id(event.key), prefix=own),)
            yield "splits", event.splits, (task.splits if task.latest else own,)
            yield "labels", event.labels, range(label_budget(task) + 1)
        case ModelTrained():
            yield "model", event.model, tuple(_models(task, own))
        case ModelEvaluated():
            metric = spec.evaluation.metric_of(spec.hyperparameters.stage)
            yield "report", event.report, (own,)
            yield "dev.metric", event.dev.metric, (metric,)
            yield "test.metric", event.test.metric if event.test else metric, (metric,)
        case PhaseFailed() | PhasePaused() | LeaseLost():
            yield "checkpoint", event.checkpoint, (own_checkpoint(event.key, event.checkpoint),)


def _named(allowed: Sequence[Any]) -> str:
    return f"0 to {allowed[-1]}" if isinstance(allowed, range) else " or ".join(map(str, allowed))


def _dataset_id(key: AttemptKey) -> str:
    return optimized_dataset_id(key.task_id, key.iteration, key.attempt)


def _models(task: Task, own: str) -> Iterator[ModelSource]:
    """What a training can give: a whole model, an adapter that names its base itself, or one on the task's base."""
    yield ModelSource(base=f"artifact:{own}")
    if task.spec.hyperparameters.method is Method.LORA:
        yield ModelSource(base=task.spec.model.base, adapters=(own,))
