"""A task as server-sent events: its history, replayed and then live, and the latest progress in between."""

from __future__ import annotations

from collections.abc import AsyncIterator
from http import HTTPStatus
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Header
from fastapi.sse import EventSourceResponse, ServerSentEvent
from starlette.exceptions import HTTPException

from contracts.progress import PhaseProgress
from control.consumers.progress import Watch
from control.gateway.parts import GatewayParts, Parts
from control.gateway.tasks import LARGEST_ID, TaskId
from control.gateway.views import history_view
from control.store.port import HistoryRow

POLL = 1.0
"""Seconds between two looks at the history where nothing wakes us: another control process may have changed it."""
RECONNECT = 2000
"""Milliseconds after which a client that lost the stream asks again."""
PAGE = 500

router = APIRouter(prefix="/api/tasks", tags=["tasks"])

LastEventId = Annotated[int, Header(alias="Last-Event-ID", ge=0, le=LARGEST_ID)]


async def _unseen(task_id: TaskId, parts: Parts, last_event_id: LastEventId = 0) -> int:
    """The id after which the history is wanted. Raises TaskNotFound; answers 204 if the task ended before that."""
    stored = await parts.store.task(task_id)
    seen = last_event_id > 0 and stored.task.status.terminal
    if seen and not await parts.store.history(task_id, last_event_id, 1):
        raise HTTPException(HTTPStatus.NO_CONTENT)
    return last_event_id


@router.get("/{taskId}/progress", response_class=EventSourceResponse)
async def progress(
    task_id: TaskId, parts: Parts, after: Annotated[int, Depends(_unseen)]
) -> AsyncIterator[ServerSentEvent]:
    """Events `history` (its `id` is the row's) and `progress` (the newest message only), until the task has ended.

    A client that reconnects after the end, as browsers do by themselves, is told to stop by 204.
    """
    with parts.live.watch(task_id) as watch:
        async for event in _events(parts, task_id, after, watch):
            yield event


async def _events(parts: GatewayParts, task_id: UUID, after: int, watch: Watch) -> AsyncIterator[ServerSentEvent]:
    shown: PhaseProgress | None = None
    ended = False
    while not watch.closed:
        rows = await parts.store.history(task_id, after, PAGE)
        for row in rows:
            after, ended = row.id, row.status.terminal
            yield _history_event(row)
        if len(rows) == PAGE:
            continue
        if ended:
            return
        latest = parts.live.latest(task_id)
        if latest is not None and latest != shown:
            shown = latest
            yield ServerSentEvent(raw_data=latest.model_dump_json(), event="progress", retry=RECONNECT)
        await watch.changed(POLL)


def _history_event(row: HistoryRow) -> ServerSentEvent:
    data = history_view(row).model_dump_json(by_alias=True)
    return ServerSentEvent(raw_data=data, event="history", id=str(row.id), retry=RECONNECT)
