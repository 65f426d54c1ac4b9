"""HTTP bodies, with the field names of the users' specification (004).

Requests accept camelCase and snake_case; responses are written in camelCase.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictBool,
    StrictFloat,
    StrictInt,
    ValidationInfo,
    field_validator,
)
from pydantic.alias_generators import to_camel

from contracts.bounds import YEAR, Text
from contracts.options import (
    EvaluationOptions,
    Hyperparameters,
    OptimizationOptions,
    Options,
    StopRules,
    TimeLimits,
)
from contracts.report import Score
from contracts.tasks import AttemptName, ModelName, PauseMode, Phase, TaskMode, TaskStatus


class DuplicateKey(ValueError):
    """A JSON object has the key `key` twice."""

    def __init__(self, key: str) -> None:
        self.key = key
        super().__init__(f"the key {key[:100]!r} occurs twice")


def unique_keys(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """The object of these pairs, for `json.loads`, which keeps the last of two equal keys. Raises DuplicateKey."""
    result = dict[str, Any]()
    for key, value in pairs:
        if key in result:
            raise DuplicateKey(key)
        result[key] = value
    return result


def _from_json_string(value: object) -> object:
    """Accept `hyperparameters` as an object, or as a JSON string as in the users' specification."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value, object_pairs_hook=unique_keys)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"expected an object, or a string that holds one as JSON: {error}") from error


HyperparametersField = Annotated[Hyperparameters, BeforeValidator(_from_json_string)]


Delay = Annotated[StrictFloat, Field(ge=0, le=YEAR)]
"""Seconds from now, at most 366 days."""


DatasetId = Annotated[Text, Field(min_length=1, max_length=100)]


class TaskBody(Options):
    """Fields of both task modes."""

    task_name: Text = Field(min_length=1, max_length=200)
    model_name: ModelName
    """An absolute path, a hub id, a name defined in `TREADLE_MODELS`, or `task:<id>[/<iteration>]`."""
    dataset_id: DatasetId
    user_id: StrictInt = Field(ge=0, lt=2**63)
    dev_dataset_id: DatasetId | None = None
    test_dataset_id: DatasetId | None = None
    pool_dataset_id: DatasetId | None = None
    hyperparameters: HyperparametersField = Hyperparameters()
    optimization: OptimizationOptions = OptimizationOptions()
    evaluation: EvaluationOptions = EvaluationOptions()
    seed: StrictInt = Field(default=1, ge=0, lt=2**31)
    max_failures: StrictInt = Field(default=3, ge=0, le=100)
    limits: TimeLimits = TimeLimits()
    auto_start: StrictBool = False
    start_after_seconds: Delay = 0.0

    @field_validator("start_after_seconds")
    @classmethod
    def _needs_auto_start(cls, seconds: float, info: ValidationInfo) -> float:
        if seconds and not info.data.get("auto_start"):
            raise ValueError("needs autoStart: true; set it, or leave startAfterSeconds out")
        return seconds


class StandardTaskRequest(TaskBody):
    """Body of `POST /api/tasks/standard`."""

    mode: Literal["STANDARD"] = "STANDARD"


class ContinuousTaskRequest(TaskBody, StopRules):
    """Body of `POST /api/tasks/continuous`: the fields of a standard task and the stop rules."""

    mode: Literal["CONTINUOUS"] = "CONTINUOUS"

    def stop_rules(self) -> StopRules:
        """The stop rules of this body."""
        return StopRules(**{name: getattr(self, name) for name in StopRules.model_fields})


Reason = Annotated[Text, Field(min_length=1, max_length=1000)]
"""Why the request is made; it is stored in the task's history."""


class ReasonRequest(Options):
    """Optional body of `POST /api/tasks/{id}/resume` and `POST /api/tasks/{id}/cancel`."""

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
    """Body of `POST /api/tasks/{id}/kick` and `POST /api/tasks/{id}/fail`.

    With `attempt`, the request is refused unless this is the current attempt.
    """

    reason: Reason
    attempt: AttemptName | None = None


class View(BaseModel):
    """Base class of responses: made from an object's attributes, written in camelCase."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, from_attributes=True)


class IterationView(View):
    """The result of one iteration."""

    iteration: int
    rows: int
    labels: int
    dev: Score
    test: Score | None
    actions: dict[str, int]
    model_path: str
    evaluation_path: str


class NoticeView(View):
    """What a phase did with some of the rows, and why; `places` are the first rows or lines."""

    iteration: int
    phase: Phase
    rule: str
    rows: int
    """0 if the notice is about the whole dataset."""
    text: str
    places: tuple[str, ...]


class TaskView(View):
    """A task and the state of its loop (`MLTask` in the users' specification)."""

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
    """Why the task completed or failed; None before that."""
    message: str | None
    iterations: tuple[IterationView, ...]
    version: int
    created_at: datetime
    updated_at: datetime


class WorkView(View):
    """How much of its time a task, or an iteration, spent on work; all None until an attempt has reported its work."""

    work_seconds: float | None = None
    """Seconds in which programs ran, without imports and transfers, as the ended attempts reported."""
    wall_seconds: float | None = None
    """Seconds from the first command to the end of the newest ended attempt, without pauses and failed times."""
    overhead: float | None = None
    """The share of `wall_seconds` that was no work, 0 to 1."""
    unreported_seconds: float | None = None
    """Seconds of attempts that ended without a report of their work, all of which counts as overhead."""


class TaskPage(View):
    """One page of tasks, newest first."""

    items: tuple[TaskView, ...]
    total: int
    page: int
    page_size: int


class ExecutionView(View):
    """One attempt at one phase (`TaskExecution` in the users' specification)."""

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
    work_seconds: float | None = None
    """As in WorkView; None while the attempt runs, and if it ended without a report."""


class HistoryView(View):
    """One row of a task's append-only history."""

    id: int
    task_id: UUID
    version: int | None
    """The task version that this event made; None if the event changed nothing."""
    kind: str
    outcome: Literal["applied", "stale"]
    status: TaskStatus
    actor: str
    reason: str | None
    event: dict[str, Any]
    at: datetime


class DatasetView(View):
    """A registered dataset (`Dataset` in the users' specification)."""

    dataset_id: str
    name: str
    storage_path: str
    file_size: int
    sample_count: int | None
    """None until an optimizer has read the dataset, because the upload is not parsed."""
    dataset_type: str
    domain: str | None
    user_id: int
    is_optimized: bool
    source_dataset_id: str | None
    created_at: datetime


class LogChunk(View):
    """The event `log` of a followed log: the text from byte `offset` up to byte `next_offset`.

    Bytes that are not UTF-8 are written in hex, with a backslash and an x.
    """

    offset: int
    next_offset: int
    text: str


class LogEnd(View):
    """The event `end` of a followed log: the attempt has ended with this status, and its whole log was sent."""

    status: str


class LogHeader:
    """The headers of a page of a log. All numbers are bytes."""

    OFFSET = "Log-Offset"
    """Where the page begins."""
    NEXT_OFFSET = "Log-Next-Offset"
    """Where the next page begins."""
    SIZE = "Log-Size"
    """The end of the log so far."""
    ENDED = "Log-Ended"
    """`true` if the attempt has ended, so that the log does not grow."""
