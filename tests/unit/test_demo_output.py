"""What the demo prints and writes when its loop has ended."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import pytest
from rich.console import Console

from cli.demo.chart import terminal_chart
from cli.demo.report import report
from cli.demo.run import Demo, DemoResult
from contracts.http import IterationView, TaskView
from contracts.options import Metric
from contracts.report import Score
from contracts.tasks import TaskMode, TaskStatus

PARTS = {"broker": "rabbitmq 3.10.8", "database": "postgresql 18.6 (embedded)", "object_store": "rclone 1.75"}


def iteration_view(iteration: int, dev: float, test: float) -> IterationView:
    def score(value: float) -> Score:
        return Score(metric=Metric.EXACT_MATCH, value=value, low=value - 0.05, high=value + 0.05, scored=300)

    return IterationView(
        iteration=iteration,
        rows=160 + 120 * iteration,
        labels=120,
        dev=score(dev),
        test=score(test),
        actions={"added_targeted": 120, "exact_duplicate": 0},
        model_path="models/x",
        evaluation_path="evaluations/x",
    )


@pytest.fixture
def outcome(tmp_path: Path) -> DemoResult:
    now = datetime.now(UTC)
    task = TaskView(
        task_id=UUID(int=1),
        task_name="bank answers",
        task_mode=TaskMode.CONTINUOUS,
        status=TaskStatus.COMPLETED,
        model_name="task:1",
        dataset_id="d",
        current_dataset_id="d",
        user_id=1,
        current_iteration=3,
        max_iterations=3,
        performance_threshold=None,
        latest_model_path="models/x",
        latest_evaluation_path="evaluations/x",
        latest_score=0.7,
        best_iteration=2,
        best_score=0.8,
        phase=None,
        attempt=None,
        failures=0,
        reason="max_iterations",
        message=None,
        iterations=(iteration_view(1, 0.4, 0.45), iteration_view(2, 0.8, 0.75), iteration_view(3, 0.7, 0.79)),
        version=1,
        created_at=now,
        updated_at=now,
    )
    return DemoResult(Demo("targeted", 1, tmp_path), task, PARTS, 123.45, work_seconds=108.636)


def test_the_line_for_scripts_has_plain_numbers(outcome: DemoResult) -> None:
    assert json.loads(outcome.as_json()) == {
        "demo": "banking77",
        "arm": "targeted",
        "seed": 1,
        "iterations": [
            {"iteration": 1, "rows": 280, "dev": 0.4, "test": 0.45},
            {"iteration": 2, "rows": 400, "dev": 0.8, "test": 0.75},
            {"iteration": 3, "rows": 520, "dev": 0.7, "test": 0.79},
        ],
        "test_gain": 0.3,
        "seconds": 123.5,
        "overhead": 0.12,
        "broker": "rabbitmq",
        "database": "postgresql 18.6 (embedded)",
        "object_store": "rclone 1.75",
    }


def test_the_gain_is_that_of_the_iteration_that_is_best_by_dev(outcome: DemoResult) -> None:
    assert outcome.test_gain == pytest.approx(0.75 - 0.45)


def test_the_report_names_the_arm_to_compare_with(outcome: DemoResult) -> None:
    console = Console(width=80)
    with console.capture() as capture:
        report(console, outcome)

    assert "--arm random --seed 1" in " ".join(capture.get().split())


def test_the_report_says_how_much_of_the_time_was_work(outcome: DemoResult) -> None:
    console = Console(width=80)
    with console.capture() as capture:
        report(console, outcome)

    assert "worked 109 s of these 123 s; overhead 12 %" in " ".join(capture.get().split())


def test_the_report_writes_the_curve(outcome: DemoResult) -> None:
    with (console := Console(width=80)).capture():
        report(console, outcome)

    assert (outcome.demo.folder / "curve.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("width", [60, 100])
def test_the_terminal_chart_fits(outcome: DemoResult, width: int) -> None:
    lines = terminal_chart(outcome.iterations, width=width, colour=False).splitlines()

    assert max(map(len, lines)) <= width
