"""The commands and events that the machine issues; each is derived from the task's state alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from contracts.artifacts import attempt_prefix
from contracts.commands import Command, EvaluateModel, OptimizeData, TrainModel
from contracts.events import NextIteration
from contracts.options import Hyperparameters
from contracts.tasks import AttemptKey, Phase
from control.machine.task import Task

SMALLEST_BATCH_TOKENS = 64
"""A training batch is not halved below this number of tokens after an attempt ran out of memory."""


@dataclass(frozen=True, slots=True)
class OutboxMessage:
    """A message to publish `delay` seconds after the state that issued it is stored."""

    message: Command | NextIteration
    delay: float = 0.0


def command_for(task: Task) -> Command:
    """The command for the newest attempt of the current phase. Asserts that the task has one."""
    key = task.key
    assert key is not None, "a command needs an issued attempt"
    match key.phase:
        case Phase.OPTIMIZE:
            return _optimize(task, key)
        case Phase.TRAIN:
            return _train(task, key)
        case Phase.EVALUATE:
            return _evaluate(task, key)


def next_iteration(task: Task) -> NextIteration:
    """The event that starts the next iteration, issued by this version of the task."""
    return NextIteration(task_id=task.task_id, iteration=task.iteration, issued=task.version)


def _common(task: Task, key: AttemptKey) -> dict[str, Any]:
    """The fields that all commands share."""
    limits = task.spec.limits
    of_phase = {
        Phase.OPTIMIZE: limits.optimize_seconds,
        Phase.TRAIN: limits.train_seconds,
        Phase.EVALUATE: limits.evaluate_seconds,
    }
    return {
        "key": key,
        "output": attempt_prefix(key),
        "seed": task.spec.seed,
        "time_limit": of_phase[key.phase],
        "stall_limit": limits.stall_seconds,
    }


def label_budget(task: Task) -> int:
    """The number of rows that the current iteration may draw from the pool."""
    budget, limit = task.spec.optimization.label_budget, task.spec.stop.labels
    return budget if limit is None else min(budget, max(0, limit - task.labels))


def _optimize(task: Task, key: AttemptKey) -> OptimizeData:
    latest = task.latest
    options = task.spec.optimization
    if label_budget(task) != options.label_budget:
        options = options.model_copy(update={"label_budget": label_budget(task)})
    return OptimizeData(
        **_common(task, key),
        user_id=task.spec.user_id,
        datasets=task.spec.datasets,
        current=latest.dataset if latest else None,
        splits=task.splits if latest else None,
        report=latest.report if latest else None,
        options=options,
    )


def _train(task: Task, key: AttemptKey) -> TrainModel:
    assert task.current.dataset is not None, "training needs optimized rows"
    return TrainModel(
        **_common(task, key),
        model=task.spec.model,
        dataset=task.current.dataset,
        hyperparameters=_smaller_batch(task.spec.hyperparameters, task.memory_failures),
        resume_from=task.checkpoint,
    )


def _evaluate(task: Task, key: AttemptKey) -> EvaluateModel:
    assert task.current.model is not None and task.splits is not None, "evaluation needs a model and splits"
    options = task.spec.evaluation
    if task.memory_failures:
        smaller = max(1, options.batch_size >> task.memory_failures)
        options = options.model_copy(update={"batch_size": smaller})
    return EvaluateModel(
        **_common(task, key),
        model=task.current.model,
        splits=task.splits,
        hyperparameters=task.spec.hyperparameters,
        options=options,
    )


def _smaller_batch(requested: Hyperparameters, memory_failures: int) -> Hyperparameters:
    if not memory_failures:
        return requested
    smaller = max(min(SMALLEST_BATCH_TOKENS, requested.tokens_per_batch), requested.tokens_per_batch >> memory_failures)
    return requested.model_copy(update={"tokens_per_batch": smaller})
