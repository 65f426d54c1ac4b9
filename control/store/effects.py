"""What a change writes besides the task itself: outbox rows, datasets and models, the same for both adapters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from uuid import UUID

from contracts.commands import Command, EvaluateModel, OptimizeData, TrainModel
from contracts.events import DataOptimized, ModelTrained, NextIteration, PhaseFailed
from contracts.tasks import AttemptKey, ModelSource
from contracts.topology import COMMANDS, EVENTS
from contracts.wire import encode
from control.machine.commands import OutboxMessage
from control.store.values import Change, OutboxRow

OUTBOX_LOCK = 1.5
"""Seconds for which an outbox row is locked for its publisher; after that, another process may publish the row."""


@dataclass(frozen=True, slots=True)
class OptimizedDataset:
    """An optimizer's output, to be registered as a dataset; `file_size` is in bytes."""

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
    """The model of an iteration; a later attempt at the same iteration replaces it."""

    key: AttemptKey
    source: ModelSource


def outbox_row(task_id: UUID, outbox_message: OutboxMessage, headers: Mapping[str, str]) -> OutboxRow:
    """The outbox row of a message, with its exchange, routing key and body."""
    message = outbox_message.message
    to_control = isinstance(message, NextIteration)
    return OutboxRow(
        task_id=task_id,
        message_id=message.message_id,
        exchange=EVENTS.name if to_control else COMMANDS.name,
        routing_key=message.kind if isinstance(message, NextIteration) else message.key.phase.value,
        body=encode(message),
        headers=dict(headers),
        delay=outbox_message.delay,
    )


def end_message(change: Change) -> str | None:
    """A sentence on how the attempt ended, or None."""
    return change.event.message if isinstance(change.event, PhaseFailed) else change.reason


def optimized_dataset(change: Change) -> OptimizedDataset | None:
    """The dataset of an applied DataOptimized; None for any other change."""
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
    """The model of an applied ModelTrained; None for any other change."""
    event = change.event
    if change.stale or not isinstance(event, ModelTrained):
        return None
    return TrainedModel(event.key, event.model)


def input_dataset(command: Command) -> str | None:
    """The id of the registered dataset that an attempt reads; None for an evaluation, which reads only splits."""
    match command:
        case OptimizeData():
            return (command.current or command.datasets.train).dataset_id
        case TrainModel():
            return command.dataset.dataset_id
        case EvaluateModel():
            return None
