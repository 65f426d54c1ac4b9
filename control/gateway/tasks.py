"""Tasks over HTTP: create them, ask things of them, look at them."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID, uuid4

from fastapi import APIRouter, Depends, Header, Path, Query, Response
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
from control.gateway.limits import json_only
from control.gateway.parts import GatewayParts, Parts
from control.gateway.views import execution_view, history_view, task_detail, task_view
from control.store.port import TaskFilter
from control.telemetry.gauges import WORKER_WINDOW

ACTOR = "http"
LARGEST_ID = 2**63 - 1

router = APIRouter(prefix="/api/tasks", tags=["tasks"], dependencies=[Depends(json_only)])

TaskId = Annotated[UUID, Path(alias="taskId")]
IdempotencyKey = Annotated[str | None, Header(alias="Idempotency-Key", min_length=1, max_length=200)]


class TaskQuery(Options):
    """Which tasks to list."""

    status: TaskStatus | None = None
    user_id: int | None = Field(default=None, ge=0, le=LARGEST_ID)
    mode: TaskMode | None = None
    page: int = Field(default=1, ge=1, le=1_000_000)
    page_size: int = Field(default=50, ge=1, le=200)


class HistoryQuery(Options):
    """Which rows of the history to list."""

    after: int = Field(default=0, ge=0, le=LARGEST_ID)
    limit: int = Field(default=1000, ge=1, le=1000)


@router.post("/standard", status_code=201)
async def create_standard(
    body: StandardTaskRequest, parts: Parts, response: Response, idempotency_key: IdempotencyKey = None
) -> TaskView:
    """Create a task that goes once through. The same Idempotency-Key and body answer the same task again, with 201."""
    return await _create(parts, body, response, idempotency_key)


@router.post("/continuous", status_code=201)
async def create_continuous(
    body: ContinuousTaskRequest, parts: Parts, response: Response, idempotency_key: IdempotencyKey = None
) -> TaskView:
    """Create a task that loops until a stop rule holds. Idempotency as for a standard task."""
    return await _create(parts, body, response, idempotency_key)


@router.post("/{taskId}/start")
async def start(task_id: TaskId, parts: Parts, body: StartRequest | None = None) -> TaskView:
    """Begin iteration 1 of a PENDING task, now or `afterSeconds` from now."""
    asked = body or StartRequest()
    wanted = StartTask(task_id=task_id, actor=ACTOR, reason=asked.reason, after_seconds=asked.after_seconds)
    return await _request(parts, wanted)


@router.post("/{taskId}/pause")
async def pause(task_id: TaskId, parts: Parts, body: PauseRequest | None = None) -> TaskView:
    """Dispatch nothing more; `mode` says what becomes of the running attempt."""
    asked = body or PauseRequest()
    return await _request(parts, PauseTask(task_id=task_id, actor=ACTOR, reason=asked.reason, mode=asked.mode))


@router.post("/{taskId}/resume")
async def resume(task_id: TaskId, parts: Parts, body: ReasonRequest | None = None) -> TaskView:
    """Go on where the pause left off."""
    return await _request(parts, ResumeTask(task_id=task_id, actor=ACTOR, reason=body and body.reason))


@router.post("/{taskId}/cancel")
async def cancel(task_id: TaskId, parts: Parts, body: ReasonRequest | None = None) -> TaskView:
    """End it; a running program is stopped."""
    return await _request(parts, CancelTask(task_id=task_id, actor=ACTOR, reason=body and body.reason))


@router.post("/{taskId}/retry")
async def retry(task_id: TaskId, parts: Parts, body: RetryRequest | None = None) -> TaskView:
    """Try a FAILED task again: the phase that failed goes on from its checkpoint; one that is named begins afresh."""
    asked = body or RetryRequest()
    return await _request(parts, RetryTask(task_id=task_id, actor=ACTOR, reason=asked.reason, phase=asked.phase))


@router.post("/{taskId}/kick")
async def kick(task_id: TaskId, parts: Parts, body: InterventionRequest) -> TaskView:
    """Fence the attempt under way, and issue the next at once from the newest checkpoint; no failure is spent.

    One that names an `attempt`, such as `1/train/a2`, is refused where the task is at another.
    """
    asked = KickTask(task_id=task_id, actor=ACTOR, reason=body.reason, attempt=body.attempt)
    return await _request(parts, asked)


@router.post("/{taskId}/fail")
async def fail(task_id: TaskId, parts: Parts, body: InterventionRequest) -> TaskView:
    """Fence the attempt under way, and end the task FAILED; it may be retried. `attempt` as for a kick."""
    asked = FailTask(task_id=task_id, actor=ACTOR, reason=body.reason, attempt=body.attempt)
    return await _request(parts, asked)


@router.get("")
async def list_tasks(query: Annotated[TaskQuery, Query()], parts: Parts) -> TaskPage:
    """One page of tasks, newest first."""
    where = TaskFilter(query.status, query.user_id, query.mode)
    found, total = await parts.store.tasks(where, query.page, query.page_size)
    items = tuple(task_view(stored) for stored in found)
    return TaskPage(items=items, total=total, page=query.page, page_size=query.page_size)


@router.get("/{taskId}")
async def show(task_id: TaskId, parts: Parts) -> TaskDetail:
    """One task, with what each iteration brought, and what it waits for where it does not run."""
    stored = await parts.store.task(task_id)
    return task_detail(stored, await parts.store.standing(task_id, WORKER_WINDOW))


@router.get("/{taskId}/executions")
async def executions(task_id: TaskId, parts: Parts) -> list[ExecutionView]:
    """All attempts of a task, oldest first."""
    await parts.store.task(task_id)
    return [execution_view(run) for run in await parts.store.runs(task_id)]


@router.get("/{taskId}/events")
async def events(task_id: TaskId, query: Annotated[HistoryQuery, Query()], parts: Parts) -> list[HistoryView]:
    """The task's history, oldest first; `after` the last id goes on."""
    await parts.store.task(task_id)
    return [history_view(row) for row in await parts.store.history(task_id, query.after, query.limit)]


async def _create(
    parts: GatewayParts, body: StandardTaskRequest | ContinuousTaskRequest, response: Response, key: str | None
) -> TaskView:
    submission_id = uuid4() if key is None else derived_id("http", body.user_id, key)
    asked = CreateTask(submission_id=submission_id, actor=f"user:{body.user_id}", task=body)
    task = await parts.submissions.create(asked)
    response.headers["Location"] = f"{router.prefix}/{task.task_id}"
    return task_view(await parts.store.task(task.task_id))


async def _request(parts: GatewayParts, asked: TaskRequest) -> TaskView:
    task = await parts.submissions.request(asked)
    return task_view(await parts.store.task(task.task_id))
