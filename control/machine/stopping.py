"""The stop rules of a continuous task: pure functions that compare dev scores and budgets."""

from __future__ import annotations

from collections.abc import Callable

from contracts.tasks import StopReason, TaskMode
from control.machine.task import Task


def stop_reason(task: Task) -> StopReason | None:
    """The first stop rule that holds after the newest evaluation, or None if another iteration follows."""
    if task.spec.mode is TaskMode.STANDARD:
        return StopReason.ONCE_THROUGH
    return next((reason for reason, holds in _RULES.items() if holds(task)), None)


def _threshold(task: Task) -> bool:
    rules, latest = task.spec.stop, task.latest
    if rules.performance_threshold is None or latest is None:
        return False
    score = latest.dev.low if rules.threshold_by_lower_bound else latest.dev.value
    return score >= rules.performance_threshold


def _iterations(task: Task) -> bool:
    return task.iteration >= task.spec.stop.max_iterations


def _plateau(task: Task) -> bool:
    """Whether the last k iterations brought no gain: a gain is a score whose interval is above the best one before."""
    k = task.spec.stop.plateau_iterations
    if k is None or len(task.results) <= k:
        return False
    before = max(result.dev.value for result in task.results[:-k])
    return all(result.dev.low <= before for result in task.results[-k:])


def _gpu_budget(task: Task) -> bool:
    budget = task.spec.stop.gpu_seconds
    return budget is not None and task.gpu_seconds >= budget


def _label_budget(task: Task) -> bool:
    budget = task.spec.stop.labels
    return budget is not None and task.labels >= budget


_RULES: dict[StopReason, Callable[[Task], bool]] = {
    StopReason.THRESHOLD: _threshold,
    StopReason.MAX_ITERATIONS: _iterations,
    StopReason.PLATEAU: _plateau,
    StopReason.GPU_BUDGET: _gpu_budget,
    StopReason.LABEL_BUDGET: _label_budget,
}
