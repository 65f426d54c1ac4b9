from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from contracts.events import PhaseEvent
from contracts.notices import notice
from contracts.options import StopRules
from contracts.tasks import AttemptKey, ModelSource, Phase, TaskMode
from control.gateway.views import execution_view, history_view, model_path, task_detail, task_view
from control.machine.commands import next_iteration
from control.machine.machine import AttemptState, advance
from control.machine.task import Task
from control.store.values import AttemptRecord, HistoryRow, StoredTask, TaskClock
from tests.build import TASK, after_events, complete, completed, failed, new_task, started

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def view(task: Task) -> dict[str, Any]:
    return task_view(StoredTask(task, NOW, NOW)).model_dump(by_alias=True)


def attempt_record(phase: Phase, event: PhaseEvent | None = None, **more: Any) -> AttemptRecord:
    fields: dict[str, Any] = {
        "key": AttemptKey(task_id=TASK, iteration=1, phase=phase, attempt=1),
        "state": AttemptState.COMPLETED,
        "worker_id": "worker-1",
        "claim_id": None,
        "message": None,
        "event": event.model_dump(mode="json") if event else None,
        "input_dataset_id": "raw",
        "fraction": None,
        "created_at": NOW,
        "due_at": NOW,
        "claimed_at": NOW + timedelta(seconds=1),
        "lease_expires_at": None,
        "ended_at": NOW + timedelta(seconds=2),
    }
    return AttemptRecord(**fields | more)


def test_a_new_task_has_no_results() -> None:
    assert (
        view(new_task()).items()
        >= {
            "status": "PENDING",
            "datasetId": "raw",
            "currentDatasetId": None,
            "latestModelPath": None,
            "latestScore": None,
            "bestIteration": None,
            "phase": None,
            "attempt": None,
        }.items()
    )


def test_a_standard_task_has_one_iteration() -> None:
    task = new_task(TaskMode.STANDARD, stop=StopRules(max_iterations=7))
    assert view(task)["maxIterations"] == 1


def test_a_running_iteration_shows_its_own_dataset_and_the_last_score() -> None:
    task = complete(started(), 3, 0.4)
    task = complete(_next(task), 1)
    assert (
        view(task).items()
        >= {
            "currentIteration": 2,
            "currentDatasetId": f"{TASK}-2-a1",
            "latestModelPath": f"models/{TASK}/1/a1",
            "latestScore": 0.4,
        }.items()
    )


def test_best_is_apart_from_latest() -> None:
    task = complete(_next(complete(started(), 3, 0.6)), 3, 0.4)
    assert view(task).items() >= {"bestIteration": 1, "bestScore": 0.6, "latestScore": 0.4}.items()


def test_each_iteration_is_listed() -> None:
    task = complete(_next(complete(started(), 3, 0.6)), 3, 0.4)
    assert [(each["iteration"], each["dev"]["value"]) for each in view(task)["iterations"]] == [(1, 0.6), (2, 0.4)]


def test_the_notices_of_every_iteration_are_listed_with_iteration_and_phase() -> None:
    task = started()
    for _ in range(4):
        assert task.key is not None
        lines = notice("unreadable", 2, "2 lines are not JSON", ["train/a.jsonl:3", "train/a.jsonl:9"])
        task = advance(task, completed(task, 0.6, notices=(lines,))).task
        task = _next(task) if task.phase is None else task
    shown = task_detail(StoredTask(task, NOW, NOW), None, TaskClock()).model_dump(mode="json", by_alias=True)["notices"]
    assert [(each["iteration"], each["phase"]) for each in shown] == [
        (1, "optimize"),
        (1, "train"),
        (1, "evaluate"),
        (2, "optimize"),
    ]
    facts = {"rule": "unreadable", "rows": 2, "text": "2 lines are not JSON"}
    assert shown[0].items() >= facts.items()
    assert shown[0]["places"] == ["train/a.jsonl:3", "train/a.jsonl:9"]


@pytest.mark.parametrize(
    ("phase", "name"),
    [(Phase.OPTIMIZE, "optimization"), (Phase.TRAIN, "training"), (Phase.EVALUATE, "evaluation")],
)
def test_phases_have_the_names_of_004(phase: Phase, name: str) -> None:
    assert execution_view(attempt_record(phase)).phase == name


@pytest.mark.parametrize(
    ("phases", "field", "value"),
    [
        (0, "outputDatasetId", f"{TASK}-1-a1"),
        (1, "modelPath", f"models/{TASK}/1/a1"),
        (2, "evaluationPath", f"evaluations/{TASK}/1/a1"),
        (2, "score", 0.5),
    ],
)
def test_an_execution_shows_the_result_in_its_event(phases: int, field: str, value: object) -> None:
    task = complete(started(), phases)
    assert task.phase is not None
    shown = execution_view(attempt_record(task.phase, completed(task))).model_dump(by_alias=True)
    assert shown[field] == value


def test_a_failed_execution_has_its_message() -> None:
    shown = execution_view(attempt_record(Phase.OPTIMIZE, failed(started()), state=AttemptState.FAILED))
    assert shown.message == "it broke"


def test_a_running_execution_has_no_end() -> None:
    shown = execution_view(attempt_record(Phase.TRAIN, state=AttemptState.RUNNING, ended_at=None))
    assert (shown.status, shown.completed_at) == ("running", None)


def test_a_history_row_keeps_the_event_as_it_was() -> None:
    event = completed(started()).model_dump(mode="json")
    row = HistoryRow(7, TASK, 3, "data_optimized", "applied", started().status, "worker-1", None, event, NOW)
    assert history_view(row).event == event


@pytest.mark.parametrize(
    ("model", "path"),
    [
        (ModelSource(base="artifact:models/x"), "models/x"),
        (ModelSource(base="path:/model"), "path:/model"),
        (ModelSource(base="hub:org/name", adapters=("models/a", "models/b")), "models/b"),
    ],
)
def test_a_model_is_shown_by_its_newest_layer(model: ModelSource, path: str) -> None:
    assert model_path(model) == path


def _next(task: Task) -> Task:
    return after_events(task, next_iteration(task))
