"""The route that shows the trace of an iteration, without a collector."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Path

from contracts.traces import TraceView
from control.gateway.errors import RequestRejected
from control.gateway.integers import Digits
from control.gateway.parts import Parts
from control.gateway.responses import problems
from control.gateway.routes import GatewayRoute
from control.gateway.trace_views import trace_view

LARGEST_ITERATION = 2**31 - 1

router = APIRouter(prefix="/api/tasks", tags=["tasks"], route_class=GatewayRoute)


@router.get("/{taskId}/iterations/{iteration}/trace", responses=problems(404))
async def trace(
    task_id: Annotated[UUID, Path(alias="taskId")],
    iteration: Annotated[Digits, Path(ge=1, le=LARGEST_ITERATION)],
    parts: Parts,
) -> TraceView:
    """The spans of one iteration: its attempts with their times and work, and the pauses between them."""
    stored = await parts.store.task(task_id)
    attempts = await parts.store.attempts(task_id, iteration=iteration)
    if not attempts:
        raise RequestRejected(HTTPStatus.NOT_FOUND, "iteration", _missing(iteration, stored.task.iteration))
    clock = await parts.store.task_clock(task_id)
    return trace_view(stored.task, attempts, clock.standstills, await parts.store.now())


def _missing(iteration: int, newest: int) -> str:
    if newest == 0:
        return "the task has not started, so it has no iteration yet; start it first"
    existing = "iteration 1" if newest == 1 else f"iterations 1 to {newest}"
    return f"the task has no iteration {iteration}; it has {existing}"
