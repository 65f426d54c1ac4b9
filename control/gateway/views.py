"""Converts control's values to the views of contracts.http. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from contracts.http import DatasetView, ExecutionView, HistoryView, IterationView, NoticeView, TaskView
from contracts.tasks import ModelSource, Phase, TaskMode
from contracts.waiting import TaskDetail
from control.gateway.waiting import waiting
from control.machine.task import IterationResult, Task
from control.store.values import AttemptRecord, Dataset, HistoryRow, StoredTask, TaskClock, WaitContext
from control.telemetry.work import WorkShare, reported_work, work_share


def task_view(stored: StoredTask) -> TaskView:
    """A task as users see it."""
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


def task_detail(stored: StoredTask, wait_context: WaitContext | None, clock: TaskClock) -> TaskDetail:
    """A task, why it does not run, what happened to its rows, and how much of its time was work."""
    return TaskDetail(
        **dict(task_view(stored)),
        waiting=waiting(stored.task, wait_context),
        notices=tuple(_notices(stored.task)),
        **work_fields(work_share(clock.attempts, clock.standstills)),
    )


def work_fields(share: WorkShare | None) -> Mapping[str, float]:
    """The fields of a WorkView, in milliseconds; none if the share is unknown."""
    if share is None:
        return {}
    return {
        "work_seconds": round(share.work, 3),
        "wall_seconds": round(share.wall, 3),
        "overhead": round(share.overhead, 4),
        "unreported_seconds": round(share.unreported, 3),
    }


def execution_view(attempt: AttemptRecord) -> ExecutionView:
    """One attempt; its results come from the event that ended it."""
    event = attempt.event or {}
    dataset, model, dev = event.get("dataset"), event.get("model"), event.get("dev")
    return ExecutionView(
        task_id=attempt.key.task_id,
        iteration=attempt.key.iteration,
        phase=attempt.key.phase.noun,
        attempt=attempt.key.attempt,
        status=attempt.state.value,
        worker_id=attempt.worker_id,
        input_dataset_id=attempt.input_dataset_id,
        output_dataset_id=dataset["dataset_id"] if dataset else None,
        model_path=model_path(ModelSource.model_validate(model)) if model else None,
        evaluation_path=event.get("report"),
        score=dev["value"] if dev else None,
        message=attempt.message or event.get("message"),
        created_at=attempt.created_at,
        started_at=attempt.claimed_at,
        completed_at=attempt.ended_at,
        work_seconds=reported_work(attempt),
    )


def history_view(row: HistoryRow) -> HistoryView:
    """One row of a task's history."""
    return HistoryView.model_validate(row)


def dataset_view(dataset: Dataset) -> DatasetView:
    """One dataset."""
    return DatasetView.model_validate(dataset)


def model_path(model: ModelSource) -> str:
    """The location of a model's newest layer: its last adapter, or its base if it has none."""
    return model.adapters[-1] if model.adapters else model.base.removeprefix("artifact:")


def _latest(task: Task) -> Mapping[str, Any]:
    """The newest results: of the current iteration if it has them, else of the previous one."""
    latest, best, current = task.latest, task.best, task.current
    dataset = current.dataset or (latest.dataset if latest else None)
    model = current.model or (latest.model if latest else None)
    return {
        "current_dataset_id": dataset.dataset_id if dataset else None,
        "latest_model_path": model_path(model) if model else None,
        "latest_evaluation_path": latest.report if latest else None,
        "latest_score": latest.dev.value if latest else None,
        "best_iteration": best.iteration if best else None,
        "best_score": best.dev.value if best else None,
    }


def _notices(task: Task) -> Iterator[NoticeView]:
    """The notices of the evaluated iterations, then those of the current one, in the order of their phases."""
    noted = [(result.iteration, result.notices) for result in task.results]
    for iteration, by_phase in (*noted, (task.iteration, task.current.notices)):
        for phase in Phase:
            for notice in by_phase.get(phase, ()):
                yield NoticeView(iteration=iteration, phase=phase, **dict(notice))


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
