"""Checks a command again before it is run: commands can be forged, and control checks only the attempt."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeVar

import structlog

from contracts.artifacts import attempt_of, attempt_prefix, is_safe_name, writer_of
from contracts.commands import EvaluateModel, OptimizeData, PhaseCommand, TrainModel
from contracts.errors import FieldError, UndecodableMessage
from contracts.tasks import AttemptKey, DatasetRef, ModelSource, Phase

ARTIFACT = "artifact:"
DATASET_SEGMENTS = 3
"""`datasets/<user id>/<dataset id>`."""

C = TypeVar("C", bound=PhaseCommand)
Place = tuple[str, str, bool]
"""The name of a field, its prefix, and whether the prefix is allowed there."""

log = structlog.get_logger(__name__)


def checked(command: C) -> C:
    """The command, without a checkpoint that is none of its phase: the attempt then starts from the beginning.

    Raises UndecodableMessage if another prefix is not one that control gives in such a command.
    """
    for field, prefix, allowed in _places(command):
        if not allowed:
            reason = f"{prefix} is no place of this command; see who else may publish commands"
            raise UndecodableMessage(f"{field}: {reason}", (FieldError(field=field, message=reason),))
    if isinstance(command, TrainModel) and command.resume_from and not _may_resume(command.key, command.resume_from):
        log.warning("checkpoint_ignored", key=str(command.key), prefix=command.resume_from)
        return command.model_copy(update={"resume_from": None})
    return command


def _places(command: PhaseCommand) -> Iterator[Place]:
    key = command.key
    yield "output", command.output, command.output == attempt_prefix(key)
    match command:
        case OptimizeData():
            for name in type(command.datasets).model_fields:
                given: DatasetRef | None = getattr(command.datasets, name)
                if given is not None:
                    yield f"datasets.{name}", given.prefix, _is_dataset(given.prefix, command.user_id)
            if command.current is not None:
                yield "current", command.current.prefix, _is_of_task(key, Phase.OPTIMIZE, command.current.prefix)
            if command.splits is not None:
                yield "splits", command.splits, _is_of_task(key, Phase.OPTIMIZE, command.splits)
            if command.report is not None:
                yield "report", command.report, _is_of_task(key, Phase.EVALUATE, command.report)
        case TrainModel():
            yield "dataset", command.dataset.prefix, _is_of_task(key, Phase.OPTIMIZE, command.dataset.prefix)
            yield from _layers(command.model)
        case EvaluateModel():
            yield "splits", command.splits, _is_of_task(key, Phase.OPTIMIZE, command.splits)
            yield from _layers(command.model)


def _layers(model: ModelSource) -> Iterator[Place]:
    if model.base.startswith(ARTIFACT):
        yield "model.base", model.base, _is_model(model.base.removeprefix(ARTIFACT))
    for adapter in model.adapters:
        yield "model.adapters", adapter, _is_model(adapter)


def _is_of_task(key: AttemptKey, phase: Phase, prefix: str) -> bool:
    """Whether an attempt of the same task at this phase wrote it, in this iteration or an earlier one."""
    writer = attempt_of(prefix)
    return (
        writer is not None
        and (writer.task_id, writer.phase) == (key.task_id, phase)
        and writer.iteration <= key.iteration
    )


def _may_resume(key: AttemptKey, checkpoint: str) -> bool:
    """Whether an earlier attempt at the same phase of the same iteration wrote the checkpoint."""
    writer = writer_of(checkpoint)
    return (
        writer is not None
        and writer.attempt < key.attempt
        and writer.model_copy(update={"attempt": key.attempt}) == key
    )


def _is_model(prefix: str) -> bool:
    """Whether a training of any task wrote it."""
    writer = attempt_of(prefix)
    return writer is not None and writer.phase is Phase.TRAIN


def _is_dataset(prefix: str, user_id: int) -> bool:
    """Whether it is an upload of the user, or an optimized dataset of any task."""
    writer = attempt_of(prefix)
    if writer is not None:
        return writer.phase is Phase.OPTIMIZE
    parts = prefix.split("/")
    in_place = len(parts) == DATASET_SEGMENTS and parts[:2] == ["datasets", str(user_id)]
    return in_place and is_safe_name(prefix) and "#" not in prefix
