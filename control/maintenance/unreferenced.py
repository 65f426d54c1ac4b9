"""Decides from the references which artifacts may be deleted. Pure: `retention` accesses the stores."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby

from contracts.artifacts import FOLDER_OF, MANIFEST, log_prefix
from contracts.tasks import ModelSource, Phase
from control.machine.machine import AttemptState
from control.machine.task import IterationResult, Task
from control.store.values import AttemptRecord

WITHOUT_RESULT = frozenset({AttemptState.FAILED, AttemptState.FENCED, AttemptState.LOST, AttemptState.CANCELLED})
_ATTEMPT = rf"(?:{'|'.join(FOLDER_OF.values())})/[^/]+/[^/]+/a\d+"
_ARTIFACT = re.compile(rf"(?:artifact:)?(?P<artifact>(?P<attempt>{_ATTEMPT})(?:/checkpoint-(?P<step>\d+))?)(?:[/#]|$)")


@dataclass(frozen=True, slots=True)
class UnreferencedArtifact:
    """An artifact without references: its object keys, their size in bytes, and the reason to delete it."""

    prefix: str
    reason: str
    keys: tuple[str, ...]
    size: int


def artifact_of(reference: str) -> str:
    """The artifact that contains a reference or an object key: an attempt's result or one of its checkpoints."""
    match = _ARTIFACT.match(reference)
    return match["artifact"] if match else reference


def references(task: Task) -> frozenset[str]:
    """The artifacts that a task refers to; if it has ended, those that its best and latest results and a retry need."""
    current, datasets = task.current, task.spec.datasets
    inputs = [dataset.prefix for dataset in (datasets.train, datasets.dev, datasets.test, datasets.pool) if dataset]
    state = [task.splits, task.checkpoint, current.dataset.prefix if current.dataset else None]
    results = [result for result in (task.best, task.latest) if result] if task.status.terminal else task.results
    models = [model for model in (task.spec.model, current.model) if model]
    prefixes = [*inputs, *state, *_of_results(results), *(layer for model in models for layer in layers(model))]
    return frozenset(artifact_of(reference) for reference in prefixes if reference)


def layers(model: ModelSource) -> tuple[str, ...]:
    """The base and the adapters of a model."""
    return (model.base, *model.adapters)


def unreferenced(
    attempt: AttemptRecord, task: Task, referenced: frozenset[str], sizes: Mapping[str, int]
) -> list[UnreferencedArtifact]:
    """The deletable artifacts of an ended attempt; `sizes` maps the object keys under its prefix to bytes.

    `referenced` are the artifacts that are inputs of any task or layers of registered models.
    """
    kept = references(task) | referenced | _resumable(attempt, task, sizes)
    artifacts = []
    for artifact, keys in groupby(sorted(sizes, key=artifact_of), key=artifact_of):
        reason = None if artifact in kept else _reason(attempt, task, artifact)
        if reason is not None:
            object_keys = tuple(keys)
            artifacts.append(
                UnreferencedArtifact(artifact, reason, object_keys, sum(sizes[key] for key in object_keys))
            )
    return artifacts


def deletable_log(attempt: AttemptRecord, task: Task, sizes: Mapping[str, int]) -> list[UnreferencedArtifact]:
    """The log of an ended attempt, if its task has ended: until then it explains what the task did.

    `sizes` maps the object keys of the log to bytes.
    """
    if not sizes or not task.status.terminal:
        return []
    return [UnreferencedArtifact(log_prefix(attempt.key), "log of an ended task", tuple(sizes), sum(sizes.values()))]


def _reason(attempt: AttemptRecord, task: Task, artifact: str) -> str | None:
    """Why an artifact without references may be deleted; None if it is kept."""
    if _step(artifact) is not None:
        return "superseded checkpoint"
    if attempt.state in WITHOUT_RESULT:
        return f"attempt {attempt.state}"
    if attempt.key.phase is Phase.OPTIMIZE and attempt.state is AttemptState.COMPLETED and task.status.terminal:
        return "intermediate dataset"
    return None


def _resumable(attempt: AttemptRecord, task: Task, sizes: Mapping[str, int]) -> frozenset[str]:
    """The newest complete checkpoint, and newer ones, if the task is still in the attempt's phase and may resume it."""
    key = task.key
    if task.status.terminal or key is None or (attempt.key.iteration, attempt.key.phase) != (key.iteration, key.phase):
        return frozenset()
    checkpoints = dict(_checkpoints(sizes))
    complete = [step for artifact, step in checkpoints.items() if f"{artifact}/{MANIFEST}" in sizes]
    newest = max(complete, default=0)
    return frozenset(artifact for artifact, step in checkpoints.items() if step >= newest)


def _checkpoints(keys: Iterable[str]) -> Iterator[tuple[str, int]]:
    for artifact in {artifact_of(key) for key in keys}:
        step = _step(artifact)
        if step is not None:
            yield artifact, step


def _step(artifact: str) -> int | None:
    match = _ARTIFACT.match(artifact)
    return int(match["step"]) if match and match["step"] else None


def _of_results(results: Iterable[IterationResult]) -> Iterator[str]:
    for result in results:
        yield from (result.dataset.prefix, result.report, *layers(result.model))
