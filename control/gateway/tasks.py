"""Routes to create, control and read tasks."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated
from uuid import UUID, uuid4

from fastapi import APIRouter, Header, HTTPException, Path, Query, Response
from pydantic import Field

from contracts.http import (
    ContinuousTaskRequest,
    ExecutionView,
    HistoryView,
    InterventionRequest,
    PauseRequest,
    ReasonRequest,
    RetryRequest,
    StandardTaskRequest,
    StartRequest,
    TaskPage,
    TaskView,
)
from contracts.message import derived_id
from contracts.options import Options
from contracts.submissions import (
    CancelTask,
    CreateTask,
    FailTask,
    KickTask,
    PauseTask,
    ResumeTask,
    RetryTask,
    StartTask,
    TaskRequest,
)
from contracts.tasks import TaskMode, TaskStatus
from contracts.waiting import TaskDetail
from control.gateway.history_pages import history_page
from control.gateway.integers import Digits
from control.gateway.pages import PageQuery
from control.gateway.parts import GatewayParts, Parts
from control.gateway.responses import BODY_PROBLEMS, created, problems
from control.gateway.routes import GatewayRoute
from control.gateway.views import execution_view, history_view, task_detail, task_view
from control.store.values import LARGEST_ID, WORKER_WINDOW, TaskFilter

ACTOR = "http"

router = APIRouter(prefix="/api/tasks", tags=["tasks"], route_class=GatewayRoute)

TASK_OPERATIONS = (
    *(f"tasks_{name}" for name in ("show", "start", "pause", "resume", "cancel", "retry", "kick", "fail")),
    *(f"tasks_{name}" for name in ("executions", "events", "progress")),
)
CREATING = created("The task", "taskId", *TASK_OPERATIONS) | problems(409, *BODY_PROBLEMS)
CHANGING, READING = problems(404, 409, *BODY_PROBLEMS), problems(404)

TaskId = Annotated[UUID, Path(alias="taskId")]
IdempotencyKey = Annotated[str | None, Header(alias="Idempotency-Key", min_length=1, max_length=200)]


class TaskQuery(Options):
    """Which tasks to list."""

    status: TaskStatus | None = None
    user_id: Digits | None = Field(default=None, ge=0, le=LARGEST_ID)
    mode: TaskMode | None = None
    page: Digits = Field(default=1, ge=1, le=1_000_000)
    page_size: Digits = Field(default=50, ge=1, le=200)


class HistoryQuery(Options):
    """Which rows of the history to list."""

    after: Digits = Field(default=0, ge=0, le=LARGEST_ID)
    limit: Digits = Field(default=1000, ge=1, le=1000)


@router.post("/standard", status_code=201, responses=CREATING)
async def create_standard(
    body: StandardTaskRequest, parts: Parts, response: Response, idempotency_key: IdempotencyKey = None
) -> TaskView:
    """Create a task that runs once. A repeated Idempotency-Key with the same body returns the same task, with 201."""
    return await _create(parts, body, response, idempotency_key)


@router.post("/continuous", status_code=201, responses=CREATING)
async def create_continuous(
    body: ContinuousTaskRequest, parts: Parts, response: Response, idempotency_key: IdempotencyKey = None
) -> TaskView:
    """Create a task that loops until a stop rule holds. Idempotency-Key works as for a standard task."""
    return await _create(parts, body, response, idempotency_key)


@router.post("/{taskId}/start", responses=CHANGING)
async def start(task_id: TaskId, parts: Parts, body: StartRequest | None = None) -> TaskView:
    """Start iteration 1 of a PENDING task, now or `afterSeconds` from now."""
    options = body or StartRequest()
    request = StartTask(task_id=task_id, actor=ACTOR, reason=options.reason, after_seconds=options.after_seconds)
    return await _submit(parts, request)


@router.post("/{taskId}/pause", responses=CHANGING)
async def pause(task_id: TaskId, parts: Parts, body: PauseRequest | None = None) -> TaskView:
    """Dispatch no more attempts; `mode` decides what happens to the running attempt."""
    options = body or PauseRequest()
    return await _submit(parts, PauseTask(task_id=task_id, actor=ACTOR, reason=options.reason, mode=options.mode))


@router.post("/{taskId}/resume", responses=CHANGING)
async def resume(task_id: TaskId, parts: Parts, body: ReasonRequest | None = None) -> TaskView:
    """Continue a paused task from where it was paused."""
    return await _submit(parts, ResumeTask(task_id=task_id, actor=ACTOR, reason=body and body.reason))


@router.post("/{taskId}/cancel", responses=CHANGING)
async def cancel(task_id: TaskId, parts: Parts, body: ReasonRequest | None = None) -> TaskView:
    """Cancel the task; a running program is stopped."""
    return await _submit(parts, CancelTask(task_id=task_id, actor=ACTOR, reason=body and body.reason))


@router.post("/{taskId}/retry", responses=CHANGING)
async def retry(task_id: TaskId, parts: Parts, body: RetryRequest | None = None) -> TaskView:
    """Retry a FAILED task: the failed phase continues from its checkpoint; a phase given as `phase` starts afresh."""
    options = body or RetryRequest()
    return await _submit(parts, RetryTask(task_id=task_id, actor=ACTOR, reason=options.reason, phase=options.phase))


@router.post("/{taskId}/kick", responses=CHANGING)
async def kick(task_id: TaskId, parts: Parts, body: InterventionRequest) -> TaskView:
    """Fence the current attempt and issue the next one immediately from the newest checkpoint, without a failure count.

    If `attempt` is given, such as `1/train/a2`, the request is refused if the task is at another attempt.
    """
    request = KickTask(task_id=task_id, actor=ACTOR, reason=body.reason, attempt=body.attempt)
    return await _submit(parts, request)


@router.post("/{taskId}/fail", responses=CHANGING)
async def fail(task_id: TaskId, parts: Parts, body: InterventionRequest) -> TaskView:
    """Fence the current attempt and end the task as FAILED; it can be retried. `attempt` works as for a kick."""
    request = FailTask(task_id=task_id, actor=ACTOR, reason=body.reason, attempt=body.attempt)
    return await _submit(parts, request)


@router.get("")
async def list_tasks(query: Annotated[TaskQuery, Query()], parts: Parts) -> TaskPage:
    """One page of tasks, newest first."""
    task_filter = TaskFilter(query.status, query.user_id, query.mode)
    page, total = await parts.store.tasks(task_filter, query.page, query.page_size)
    items = tuple(task_view(stored) for stored in page)
    return TaskPage(items=items, total=total, page=query.page, page_size=query.page_size)


@router.get("/standard", include_in_schema=False)
@router.get("/continuous", include_in_schema=False)
async def only_post() -> None:
    """Say that tasks are created with POST; without this route the word would be read as the id of a task."""
    raise HTTPException(HTTPStatus.METHOD_NOT_ALLOWED, headers={"Allow": "POST"})


@router.get("/{taskId}", responses=READING)
async def show(task_id: TaskId, parts: Parts) -> TaskDetail:
    """One task: the results of each iteration, why it does not run, and how much of its time was work.

    `overhead` is the share of `wallSeconds` that was no work, until the end of the newest ended attempt.
    """
    stored = await parts.store.task(task_id)
    wait_context = await parts.store.wait_context(task_id, WORKER_WINDOW)
    return task_detail(stored, wait_context, await parts.store.task_clock(task_id))


@router.get("/{taskId}/executions", responses=READING)
async def executions(task_id: TaskId, query: Annotated[PageQuery, Query()], parts: Parts) -> list[ExecutionView]:
    """One page of the attempts of a task, oldest first."""
    await parts.store.task(task_id)
    found = await parts.store.attempts(task_id, page=query.page, size=query.page_size)
    return [execution_view(attempt) for attempt in found]


@router.get("/{taskId}/events", responses=READING)
async def events(task_id: TaskId, query: Annotated[HistoryQuery, Query()], parts: Parts) -> list[HistoryView]:
    """The history of a task, oldest first; use the last id as `after` to get the next rows, until there are none.

    A page ends early after about 4 MiB.
    """
    await parts.store.task(task_id)
    return [history_view(row) async for row in history_page(parts.store, task_id, query.after, query.limit)]


async def _create(
    parts: GatewayParts, body: StandardTaskRequest | ContinuousTaskRequest, response: Response, key: str | None
) -> TaskView:
    submission_id = uuid4() if key is None else derived_id("http", body.user_id, key)
    request = CreateTask(submission_id=submission_id, actor=f"user:{body.user_id}", task=body)
    stored = await parts.submissions.create(request)
    response.headers["Location"] = f"{router.prefix}/{stored.task.task_id}"
    return task_view(stored)


async def _submit(parts: GatewayParts, request: TaskRequest) -> TaskView:
    return task_view(await parts.submissions.request(request))
