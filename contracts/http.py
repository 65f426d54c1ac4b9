"""HTTP bodies: requests in camelCase (snake_case is accepted too), answers in camelCase, fields as in the seed 004."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo, field_validator
from pydantic.alias_generators import to_camel

from contracts.message import Text
from contracts.options import (
    EvaluationOptions,
    Hyperparameters,
    OptimizationOptions,
    Options,
    StopRules,
)
from contracts.report import Score
from contracts.tasks import AttemptName, PauseMode, Phase, TaskMode, TaskStatus


def _from_json_string(value: object) -> object:
    """Accept `hyperparameters` as the JSON string that 004 shows as well as an object."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"expected an object, or a string that holds one as JSON: {error}") from error


HyperparametersField = Annotated[Hyperparameters, BeforeValidator(_from_json_string)]


Delay = Annotated[float, Field(ge=0, le=366 * 24 * 3600)]
"""Seconds from now, a year at most."""


class TaskBody(Options):
    """What both modes ask for."""

    task_name: Text = Field(min_length=1, max_length=200)
    model_name: Text = Field(min_length=1, max_length=1000)
    """A path, a hub id, a name defined in settings, or `task:<id>[/<iteration>]`."""
    dataset_id: Text = Field(min_length=1, max_length=100)
    user_id: int = Field(ge=0, lt=2**63)
    dev_dataset_id: Text | None = None
    test_dataset_id: Text | None = None
    pool_dataset_id: Text | None = None
    hyperparameters: HyperparametersField = Hyperparameters()
    optimization: OptimizationOptions = OptimizationOptions()
    evaluation: EvaluationOptions = EvaluationOptions()
    seed: int = Field(default=1, ge=0, lt=2**31)
    max_failures: int = Field(default=3, ge=0, le=100)
    auto_start: bool = False
    start_after_seconds: Delay = 0.0

    @field_validator("start_after_seconds")
    @classmethod
    def _is_started(cls, asked: float, info: ValidationInfo) -> float:
        if asked and not info.data.get("auto_start"):
            raise ValueError("needs autoStart: true, or nothing is started")
        return asked


class StandardTaskRequest(TaskBody):
    """Body of `POST /api/tasks/standard`."""

    mode: Literal["STANDARD"] = "STANDARD"


class ContinuousTaskRequest(TaskBody, StopRules):
    """Body of `POST /api/tasks/continuous`: the common body and the stop rules."""

    mode: Literal["CONTINUOUS"] = "CONTINUOUS"

    def stop_rules(self) -> StopRules:
        """The part of the body that says when to stop."""
        return StopRules(**{name: getattr(self, name) for name in StopRules.model_fields})


Reason = Annotated[Text, Field(min_length=1, max_length=1000)]
"""Why something was asked for; it stands in the task's history."""


class ReasonRequest(Options):
    """Optional body of resume and cancel."""

    reason: Reason | None = None


class StartRequest(ReasonRequest):
    """Optional body of `POST /api/tasks/{id}/start`."""

    after_seconds: Delay = 0.0


class PauseRequest(ReasonRequest):
    """Optional body of `POST /api/tasks/{id}/pause`."""

    mode: PauseMode = PauseMode.DRAIN


class RetryRequest(ReasonRequest):
    """Optional body of `POST /api/tasks/{id}/retry`."""

    phase: Phase | None = None


class InterventionRequest(Options):
    """Body of kick and fail: whoever overrules a worker says why, and may say at which attempt."""

    reason: Reason
    attempt: AttemptName | None = None


class View(BaseModel):
    """An answer; read from attributes, written in camelCase."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, from_attributes=True)


class IterationView(View):
    """What one turn of the loop brought."""

    iteration: int
    rows: int
    labels: int
    dev: Score
    test: Score | None
    actions: dict[str, int]
    model_path: str
    evaluation_path: str


class TaskView(View):
    """004's MLTask, and where the loop stands."""

    task_id: UUID
    task_name: str
    task_mode: TaskMode
    status: TaskStatus
    model_name: str
    dataset_id: str
    current_dataset_id: str | None
    user_id: int
    current_iteration: int
    max_iterations: int
    performance_threshold: float | None
    latest_model_path: str | None
    latest_evaluation_path: str | None
    latest_score: float | None
    best_iteration: int | None
    best_score: float | None
    phase: Phase | None
    attempt: int | None
    failures: int
    reason: str | None
    """Why it completed or failed; None while it lives."""
    message: str | None
    iterations: tuple[IterationView, ...]
    version: int
    created_at: datetime
    updated_at: datetime


class TaskPage(View):
    """One page of tasks, newest first."""

    items: tuple[TaskView, ...]
    total: int
    page: int
    page_size: int


class ExecutionView(View):
    """004's TaskExecution: one attempt at one phase."""

    task_id: UUID
    iteration: int
    phase: Literal["optimization", "training", "evaluation"]
    attempt: int
    status: Literal["dispatched", "running", "completed", "failed", "paused", "lost", "fenced", "cancelled"]
    worker_id: str | None
    input_dataset_id: str | None
    output_dataset_id: str | None
    model_path: str | None
    evaluation_path: str | None
    score: float | None
    message: str | None
    created_at: datetime
    started_at: datetime | None
    completed_at: datetime | None


class HistoryView(View):
    """One row of a task's append-only history."""

    id: int
    task_id: UUID
    version: int | None
    """The task's version that this event made; None where it changed nothing."""
    kind: str
    outcome: Literal["applied", "stale"]
    status: TaskStatus
    actor: str
    reason: str | None
    event: dict[str, Any]
    at: datetime


class DatasetView(View):
    """004's Dataset."""

    dataset_id: str
    name: str
    storage_path: str
    file_size: int
    sample_count: int | None
    """None until an optimizer has read it: nothing is parsed at upload."""
    dataset_type: str
    domain: str | None
    user_id: int
    is_optimized: bool
    source_dataset_id: str | None
    created_at: datetime
