"""The rules that end a loop."""

from __future__ import annotations

from dataclasses import replace

import pytest

from contracts.options import StopRules
from contracts.tasks import DatasetRef, ModelSource, StopReason, TaskMode
from control.machine.stopping import stop_reason
from control.machine.task import IterationResult, Task
from tests.build import new_task, score


def after(scores: list[float], *, spread: float = 0.05, labels: int = 0, **rules: object) -> Task:
    """A continuous task whose iterations have these dev scores."""
    results = tuple(
        IterationResult(
            iteration=number,
            dataset=DatasetRef(dataset_id="d", prefix="p"),
            rows=10,
            labels=labels,
            actions={},
            model=ModelSource(base="path:/m"),
            report="r",
            dev=score(value, spread),
            test=None,
        )
        for number, value in enumerate(scores, 1)
    )
    task = new_task(stop=StopRules.model_validate({"max_iterations": 100, **rules}))
    return replace(task, results=results, iteration=len(scores))


def test_the_loop_continues_if_no_rule_holds() -> None:
    assert stop_reason(after([0.5, 0.6])) is None


def test_a_standard_task_stops_whatever_its_score() -> None:
    task = after([0.1])
    standard = replace(task, spec=task.spec.model_copy(update={"mode": TaskMode.STANDARD}))
    assert stop_reason(standard) is StopReason.ONCE_THROUGH


@pytest.mark.parametrize(("value", "reason"), [(0.9, StopReason.THRESHOLD), (0.89, None)])
def test_the_threshold_is_reached_by_the_dev_score(value: float, reason: StopReason | None) -> None:
    assert stop_reason(after([value], performance_threshold=0.9)) is reason


def test_the_lower_end_of_the_interval_decides_if_requested() -> None:
    rules = {"performance_threshold": 0.9, "threshold_by_lower_bound": True}
    assert stop_reason(after([0.93], **rules)) is None
    assert stop_reason(after([0.96], **rules)) is StopReason.THRESHOLD


def test_the_last_iteration_stops_the_loop() -> None:
    assert stop_reason(after([0.1, 0.2], max_iterations=2)) is StopReason.MAX_ITERATIONS


@pytest.mark.parametrize(
    ("scores", "reason"),
    [
        ([0.5, 0.51, 0.52], StopReason.PLATEAU),
        ([0.5, 0.6, 0.52], None),
        ([0.5, 0.51], None),
        ([0.5, 0.7, 0.71, 0.72], StopReason.PLATEAU),
    ],
)
def test_a_plateau_is_k_iterations_without_a_significant_gain(scores: list[float], reason: StopReason | None) -> None:
    assert stop_reason(after(scores, plateau_iterations=2)) is reason


def test_the_label_budget_stops_the_loop_once_it_is_spent() -> None:
    spent = after([0.5, 0.6], labels=50)
    task = replace(spent, spec=spent.spec.model_copy(update={"stop": StopRules(max_iterations=100, labels=100)}))
    assert stop_reason(task) is StopReason.LABEL_BUDGET


def test_the_gpu_budget_stops_the_loop_once_it_is_spent() -> None:
    task = after([0.5], gpu_seconds=60.0)
    assert stop_reason(replace(task, gpu_seconds=59.0)) is None
    assert stop_reason(replace(task, gpu_seconds=60.0)) is StopReason.GPU_BUDGET
