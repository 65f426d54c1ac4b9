"""From control's values to the views of contracts.http. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from contracts.http import DatasetView, ExecutionView, HistoryView, IterationView, TaskView
from contracts.tasks import ModelSource, TaskMode
from contracts.waiting import TaskDetail
from control.gateway.waiting import waiting
from control.machine.task import IterationResult, Task
from control.store.port import Dataset, HistoryRow, Run, Standing, Stored


def task_view(stored: Stored) -> TaskView:
    """A task as its users see it."""
    task, spec = stored.task, stored.task.spec
    return TaskView(
        task_id=task.task_id,
        task_name=spec.task_name,
        task_mode=spec.mode,
        status=task.status,
        model_name=spec.model_name,
        dataset_id=spec.datasets.train.dataset_id,
        user_id=spec.user_id,
        current_iteration=task.iteration,
        max_iterations=spec.stop.max_iterations if spec.mode is TaskMode.CONTINUOUS else 1,
        performance_threshold=spec.stop.performance_threshold,
        phase=task.phase,
        attempt=task.attempt or None,
        failures=task.failures,
        reason=task.reason,
        message=task.message,
        iterations=tuple(_iteration_view(result) for result in task.results),
        version=task.version,
        created_at=stored.created_at,
        updated_at=stored.updated_at,
        **_latest(task),
    )


def task_detail(stored: Stored, standing: Standing | None) -> TaskDetail:
    """A task, and what it waits for."""
    return TaskDetail(**dict(task_view(stored)), waiting=waiting(stored.task, standing))


def execution_view(run: Run) -> ExecutionView:
    """One attempt; what it brought is read from the event that ended it."""
    event = run.event or {}
    dataset, model, dev = event.get("dataset"), event.get("model"), event.get("dev")
    return ExecutionView(
        task_id=run.key.task_id,
        iteration=run.key.iteration,
        phase=run.key.phase.noun,
        attempt=run.key.attempt,
        status=run.state.value,
        worker_id=run.worker_id,
        input_dataset_id=run.input_dataset_id,
        output_dataset_id=dataset["dataset_id"] if dataset else None,
        model_path=model_path(ModelSource.model_validate(model)) if model else None,
        evaluation_path=event.get("report"),
        score=dev["value"] if dev else None,
        message=run.message or event.get("message"),
        created_at=run.created_at,
        started_at=run.claimed_at,
        completed_at=run.ended_at,
    )


def history_view(row: HistoryRow) -> HistoryView:
    """One row of the history."""
    return HistoryView.model_validate(row)


def dataset_view(dataset: Dataset) -> DatasetView:
    """A dataset."""
    return DatasetView.model_validate(dataset)


def model_path(model: ModelSource) -> str:
    """Where the newest layer of a model lies: its last adapter, else its base."""
    return model.adapters[-1] if model.adapters else model.base.removeprefix("artifact:")


def _latest(task: Task) -> Mapping[str, Any]:
    """What the loop has brought so far: of the turn under way where it has, else of the turn before."""
    latest, best, turn = task.latest, task.best, task.turn
    dataset = turn.dataset or (latest.dataset if latest else None)
    model = turn.model or (latest.model if latest else None)
    return {
        "current_dataset_id": dataset.dataset_id if dataset else None,
        "latest_model_path": model_path(model) if model else None,
        "latest_evaluation_path": latest.report if latest else None,
        "latest_score": latest.dev.value if latest else None,
        "best_iteration": best.iteration if best else None,
        "best_score": best.dev.value if best else None,
    }


def _iteration_view(result: IterationResult) -> IterationView:
    return IterationView(
        iteration=result.iteration,
        rows=result.rows,
        labels=result.labels,
        dev=result.dev,
        test=result.test,
        actions=result.actions,
        model_path=model_path(result.model),
        evaluation_path=result.report,
    )
