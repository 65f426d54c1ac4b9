"""What may be deleted, decided by what refers to what. Pure: the store and the object store stand in `retention`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby

from contracts.artifacts import FOLDER_OF, MANIFEST
from contracts.tasks import ModelSource, Phase
from control.machine.machine import RunState
from control.machine.task import IterationResult, Task
from control.store.port import Run

WITHOUT_RESULT = frozenset({RunState.FAILED, RunState.FENCED, RunState.LOST, RunState.CANCELLED})
_ATTEMPT = rf"(?:{'|'.join(FOLDER_OF.values())})/[^/]+/[^/]+/a\d+"
_ARTIFACT = re.compile(rf"(?:artifact:)?(?P<artifact>(?P<attempt>{_ATTEMPT})(?:/checkpoint-(?P<step>\d+))?)(?:[/#]|$)")


@dataclass(frozen=True, slots=True)
class Leftover:
    """An artifact that nothing refers to any more: its objects, their bytes, and why it may go."""

    prefix: str
    reason: str
    keys: tuple[str, ...]
    size: int


def artifact_of(reference: str) -> str:
    """The artifact that a reference, or the key of an object, lies in: an attempt's, or one of its checkpoints."""
    found = _ARTIFACT.match(reference)
    return found["artifact"] if found else reference


def references(task: Task) -> frozenset[str]:
    """The artifacts that a task refers to; of one that has ended, those that its results and a retry need."""
    turn, datasets = task.turn, task.spec.datasets
    given = [dataset.prefix for dataset in (datasets.train, datasets.dev, datasets.test, datasets.pool) if dataset]
    now = [task.splits, task.checkpoint, turn.dataset.prefix if turn.dataset else None]
    results = [result for result in (task.best, task.latest) if result] if task.status.terminal else task.results
    models = [model for model in (task.spec.model, turn.model) if model]
    named = [*given, *now, *_of_results(results), *(layer for model in models for layer in layers(model))]
    return frozenset(artifact_of(reference) for reference in named if reference)


def layers(model: ModelSource) -> tuple[str, ...]:
    """What a model is made of: its base and its adapters."""
    return (model.base, *model.adapters)


def leftovers(run: Run, task: Task, named: frozenset[str], sizes: Mapping[str, int]) -> list[Leftover]:
    """What may go of an attempt that has ended, of the objects under its prefix (key to bytes).

    `named` are the artifacts that any task was given and that registered models are made of.
    """
    kept = references(task) | named | _spared(run, task, sizes)
    found = []
    for artifact, keys in groupby(sorted(sizes, key=artifact_of), key=artifact_of):
        reason = None if artifact in kept else _reason(run, task, artifact)
        if reason is not None:
            mine = tuple(keys)
            found.append(Leftover(artifact, reason, mine, sum(sizes[key] for key in mine)))
    return found


def _reason(run: Run, task: Task, artifact: str) -> str | None:
    """Why nothing needs an artifact that nothing refers to; None where it is kept all the same."""
    if _step(artifact) is not None:
        return "superseded checkpoint"
    if run.state in WITHOUT_RESULT:
        return f"attempt {run.state}"
    if run.key.phase is Phase.OPTIMIZE and run.state is RunState.COMPLETED and task.status.terminal:
        return "intermediate dataset"
    return None


def _spared(run: Run, task: Task, sizes: Mapping[str, int]) -> frozenset[str]:
    """The newest complete checkpoint of an attempt at the phase that a task is in, and any newer: it may be resumed."""
    key = task.key
    if task.status.terminal or key is None or (run.key.iteration, run.key.phase) != (key.iteration, key.phase):
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
    found = _ARTIFACT.match(artifact)
    return int(found["step"]) if found and found["step"] else None


def _of_results(results: Iterable[IterationResult]) -> Iterator[str]:
    for result in results:
        yield from (result.dataset.prefix, result.report, *layers(result.model))
