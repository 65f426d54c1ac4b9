"""The route that streams a task's history and latest progress as server-sent events."""

from __future__ import annotations

from collections.abc import AsyncIterator
from http import HTTPStatus
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Header
from fastapi.sse import EventSourceResponse, ServerSentEvent
from starlette.exceptions import HTTPException

from contracts.progress import PhaseProgress
from control.consumers.progress_hub import Watcher
from control.gateway.integers import Digits
from control.gateway.limits import stream_slot
from control.gateway.parts import GatewayParts, Parts
from control.gateway.responses import problems
from control.gateway.routes import GatewayRoute
from control.gateway.tasks import TaskId
from control.gateway.views import history_view
from control.store.values import LARGEST_ID, AttemptRecord, HistoryRow

POLL_INTERVAL = 1.0
"""Seconds between two reads of the history without a wake-up, because another control process may have changed it."""
RECONNECT_MILLISECONDS = 2000
"""Milliseconds after which a client that lost the stream reconnects."""
HISTORY_BATCH = 100
"""History rows per read."""

router = APIRouter(prefix="/api/tasks", tags=["tasks"], route_class=GatewayRoute)

LastEventId = Annotated[Digits, Header(alias="Last-Event-ID", ge=0, le=LARGEST_ID)]


async def _history_start(task_id: TaskId, parts: Parts, last_event_id: LastEventId = 0) -> int:
    """The id after which history is sent. Raises TaskNotFound; answers 204 if the task has ended with no more rows."""
    stored = await parts.store.task(task_id)
    all_sent = last_event_id > 0 and stored.task.status.terminal
    if all_sent and not await parts.store.history(task_id, last_event_id, 1):
        raise HTTPException(HTTPStatus.NO_CONTENT)
    return last_event_id


@router.get(
    "/{taskId}/progress",
    response_class=EventSourceResponse,
    dependencies=[Depends(stream_slot)],
    responses={204: {"description": "The task has ended and all its events were sent"}, **problems(404)},
)
async def progress(
    task_id: TaskId, parts: Parts, after: Annotated[int, Depends(_history_start)]
) -> AsyncIterator[ServerSentEvent]:
    """Stream the events `history` (`id` is the row's id) and `progress` (only the newest) until the task has ended.

    A client that reconnects after the end, as browsers do automatically, receives 204, which means stop.
    """
    with parts.progress_hub.watch(task_id) as watch:
        async for event in _events(parts, task_id, after, watch):
            yield event


async def _events(parts: GatewayParts, task_id: UUID, after: int, watch: Watcher) -> AsyncIterator[ServerSentEvent]:
    sent: PhaseProgress | None = None
    attempt: AttemptRecord | None = None
    ended = False
    while not watch.closed:
        rows = await parts.store.history(task_id, after, HISTORY_BATCH)
        for row in rows:
            after, ended, attempt = row.id, row.status.terminal, None
            yield _history_event(row)
        if len(rows) == HISTORY_BATCH:
            continue
        if ended:
            return
        if attempt is None or attempt.worker_id is None:
            context = await parts.store.wait_context(task_id, within=0)
            attempt = context.attempt if context else None
        latest = _latest(parts, attempt)
        if latest is not None and latest != sent:
            sent = latest
            yield ServerSentEvent(raw_data=latest.model_dump_json(), event="progress", retry=RECONNECT_MILLISECONDS)
        await watch.changed(POLL_INTERVAL)


def _latest(parts: GatewayParts, attempt: AttemptRecord | None) -> PhaseProgress | None:
    """The progress of the newest attempt, from the worker that claimed it: any other may be forged."""
    if attempt is None or attempt.worker_id is None:
        return None
    return parts.progress_hub.latest(attempt.key, attempt.worker_id)


def _history_event(row: HistoryRow) -> ServerSentEvent:
    data = history_view(row).model_dump_json(by_alias=True)
    return ServerSentEvent(raw_data=data, event="history", id=str(row.id), retry=RECONNECT_MILLISECONDS)
