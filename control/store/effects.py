"""What follows from a change besides the task itself: messages, datasets and models, as both stores write them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from uuid import UUID

from contracts.commands import Command, EvaluateModel, OptimizeData, TrainModel
from contracts.events import DataOptimized, ModelTrained, NextIteration, PhaseFailed
from contracts.tasks import AttemptKey, ModelSource
from contracts.topology import COMMANDS, EVENTS
from contracts.wire import encode
from control.machine.commands import Order
from control.store.port import Change

HOLD = 1.5
"""Seconds for which outbox rows are held by the process that publishes them. If it dies, another takes them over."""


@dataclass(frozen=True, slots=True)
class Envelope:
    """An order as the outbox keeps it; `delay` in seconds."""

    task_id: UUID
    message_id: UUID
    exchange: str
    routing_key: str
    body: bytes
    headers: Mapping[str, str]
    delay: float


@dataclass(frozen=True, slots=True)
class NewRun:
    """An attempt that a command orders."""

    key: AttemptKey
    input_dataset_id: str | None


@dataclass(frozen=True, slots=True)
class OptimizedDataset:
    """An optimizer's output, to be registered as 004's Dataset."""

    task_id: UUID
    dataset_id: str
    name: str
    storage_path: str
    file_size: int
    sample_count: int
    user_id: int
    source_dataset_id: str
    dataset_type: str = "optimized"


@dataclass(frozen=True, slots=True)
class TrainedModel:
    """The model of an iteration; a later attempt at the same iteration takes its place."""

    key: AttemptKey
    source: ModelSource


def envelope(task_id: UUID, order: Order, headers: Mapping[str, str]) -> Envelope:
    """Where an order goes, and as what."""
    message = order.message
    control = isinstance(message, NextIteration)
    return Envelope(
        task_id=task_id,
        message_id=message.message_id,
        exchange=EVENTS.name if control else COMMANDS.name,
        routing_key=message.kind if isinstance(message, NextIteration) else message.key.phase.value,
        body=encode(message),
        headers=headers,
        delay=order.delay,
    )


def new_run(order: Order) -> NewRun | None:
    """The attempt that an order is for; None for control's own events."""
    message = order.message
    if isinstance(message, NextIteration):
        return None
    return NewRun(message.key, _input_dataset(message))


def ending(change: Change) -> str | None:
    """A sentence on how the attempt ended, where there is one."""
    return change.event.message if isinstance(change.event, PhaseFailed) else change.reason


def optimized_dataset(change: Change) -> OptimizedDataset | None:
    """The dataset that an applied DataOptimized brought."""
    event, spec = change.event, change.before.spec
    if change.stale or not isinstance(event, DataOptimized):
        return None
    return OptimizedDataset(
        task_id=change.before.task_id,
        dataset_id=event.dataset.dataset_id,
        name=f"{spec.task_name}, iteration {event.key.iteration}",
        storage_path=event.dataset.prefix,
        file_size=event.size,
        sample_count=event.rows,
        user_id=spec.user_id,
        source_dataset_id=spec.datasets.train.dataset_id,
    )


def trained_model(change: Change) -> TrainedModel | None:
    """The model that an applied ModelTrained brought."""
    event = change.event
    if change.stale or not isinstance(event, ModelTrained):
        return None
    return TrainedModel(event.key, event.model)


def _input_dataset(command: Command) -> str | None:
    """The registered dataset that an attempt reads; an evaluation reads held-out rows, which are none."""
    match command:
        case OptimizeData():
            return (command.current or command.datasets.train).dataset_id
        case TrainModel():
            return command.dataset.dataset_id
        case EvaluateModel():
            return None
