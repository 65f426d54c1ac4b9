"""The route to read and follow the log of an attempt's program."""

from __future__ import annotations

from collections.abc import AsyncIterator
from http import HTTPStatus
from typing import Annotated, Any, NoReturn
from uuid import UUID

from fastapi import APIRouter, Depends, Header, Path, Query, Request, Response
from fastapi.sse import EventSourceResponse
from pydantic import Field, ValidationError, ValidationInfo, field_validator

from contracts.http import LogHeader
from contracts.options import Options
from contracts.tasks import AttemptKey, AttemptName
from control.gateway.errors import RequestRejected
from control.gateway.integers import Digits
from control.gateway.limits import Capacity
from control.gateway.log_files import LogPage, LogPart, end_of, log_parts, read_page, read_tail
from control.gateway.log_stream import follow, is_complete
from control.gateway.parts import GatewayParts, Parts
from control.gateway.responses import problems
from control.gateway.routes import GatewayRoute
from control.gateway.tasks import TaskId
from control.machine.machine import AttemptState
from control.store.port import Store
from control.store.values import LARGEST_ID, AttemptRecord

PAGE, LARGEST_PAGE = 64 * 1024, 2**20
"""Bytes of a page by default, and at most."""
TEXT = "text/plain"
SSE = "text/event-stream"

router = APIRouter(prefix="/api/tasks", tags=["tasks"], route_class=GatewayRoute)

Attempt = Annotated[AttemptName, Path(description="Iteration, phase and attempt, such as `1/train/a2`.")]
LastEventId = Annotated[Digits | None, Header(alias="Last-Event-ID", ge=0, le=LARGEST_ID)]


class LogQuery(Options):
    """Which part of a log to return: from byte `offset` on, or the last `tail` bytes; by default the last 64 KiB."""

    offset: Digits | None = Field(default=None, ge=0, le=LARGEST_ID)
    limit: Digits = Field(default=PAGE, ge=1, le=LARGEST_PAGE)
    tail: Digits | None = Field(default=None, ge=0, le=LARGEST_PAGE)
    follow: bool = False

    @field_validator("tail")
    @classmethod
    def _not_both(cls, tail: int | None, info: ValidationInfo) -> int | None:
        if tail is not None and info.data.get("offset") is not None:
            raise ValueError("expected offset or tail, got both")
        return tail


async def _with_slot(request: Request, query: Annotated[LogQuery, Query()]) -> AsyncIterator[LogQuery]:
    """The query; until the answer is sent, holds a slot for streams if the log is followed, else one for downloads."""
    capacity: Capacity = request.app.state.parts.capacity
    with (capacity.streams if query.follow else capacity.downloads).take():
        yield query


Wanted = Annotated[LogQuery, Depends(_with_slot)]


_NUMBER = {"schema": {"type": "integer"}}
_ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "A page of the log; with `follow`, the events `log` and `end`",
        "content": {TEXT: {"schema": {"type": "string"}}, SSE: {"schema": {"type": "string"}}},
        "headers": {
            LogHeader.OFFSET: {"description": "The first byte of the page", **_NUMBER},
            LogHeader.NEXT_OFFSET: {"description": "`offset` of the next page", **_NUMBER},
            LogHeader.SIZE: {"description": "Bytes of the log so far", **_NUMBER},
            LogHeader.ENDED: {"description": "Whether the log is complete", "schema": {"type": "boolean"}},
        },
    },
    204: {"description": "The attempt has ended and its whole log was sent"},
    **problems(404, 416),
}


@router.get(
    "/{taskId}/attempts/{attempt:path}/log",
    response_class=Response,
    responses=_ANSWERS,
)
async def log(
    task_id: TaskId, attempt: Attempt, query: Wanted, parts: Parts, last_event_id: LastEventId = None
) -> Response:
    """The log of an attempt's program as plain text: a page by bytes, whose headers say where the next one begins.

    The worker uploads it every 30 s while the program runs, and at its end. Secrets are masked; of more than 20 MB the
    middle is left out. With `follow=true`, the log is streamed as server-sent events until the attempt has ended.
    """
    record = await _attempt(parts.store, task_id, attempt)
    complete = await is_complete(parts.store, record)
    stored = await log_parts(parts.objects, record.key)
    if not stored and not (query.follow and not complete):
        _refuse(record)
    if query.follow:
        return await _stream(parts, record.key, stored, query, last_event_id, complete)
    page = await _page(parts, stored, query)
    headers = {
        LogHeader.OFFSET: str(page.offset),
        LogHeader.NEXT_OFFSET: str(page.next_offset),
        LogHeader.SIZE: str(end_of(stored)),
        LogHeader.ENDED: str(complete).lower(),
    }
    return Response(page.data, headers=headers, media_type=TEXT)


async def _stream(
    parts: GatewayParts,
    key: AttemptKey,
    stored: list[LogPart],
    query: LogQuery,
    last_event_id: int | None,
    complete: bool,
) -> Response:
    if last_event_id is None:
        start = (await _page(parts, stored, query)).offset
    else:
        start = last_event_id
        if complete and start >= end_of(stored):
            return Response(status_code=HTTPStatus.NO_CONTENT)
    return EventSourceResponse(follow(parts, key, start))


async def _page(parts: GatewayParts, stored: list[LogPart], query: LogQuery) -> LogPage:
    """Raises RequestRejected if the page begins after the end of the log."""
    if query.offset is None:
        return await read_tail(parts.objects, stored, query.limit if query.tail is None else query.tail)
    if query.offset > end_of(stored):
        message = f"expected a first byte up to the size of the log, {end_of(stored)}"
        raise RequestRejected(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, "offset", message)
    return await read_page(parts.objects, stored, query.offset, query.limit)


async def _attempt(store: Store, task_id: UUID, name: AttemptName) -> AttemptRecord:
    """Raises TaskNotFound, or RequestRejected if the task has no such attempt."""
    iteration, phase, number = name.split("/")
    try:
        key = AttemptKey.model_validate(
            {"task_id": task_id, "iteration": int(iteration), "phase": phase, "attempt": int(number[1:])}
        )
        record = await store.attempt(key)
    except ValidationError:  # a number that no attempt can have
        record = None
    if record is None:
        await store.task(task_id)
        message = f"this task has no attempt {name}; `treadle show {task_id}` lists its attempts"
        raise RequestRejected(HTTPStatus.NOT_FOUND, "attempt", message)
    return record


def _refuse(attempt: AttemptRecord) -> NoReturn:
    """Say why an attempt has no log."""
    name = attempt.key.name
    if attempt.state is AttemptState.DISPATCHED:
        why = f"the attempt {name} waits for a worker, so it has no log yet; `treadle show` says why it waits"
    elif attempt.state is AttemptState.RUNNING:
        why = (
            f"the attempt {name} runs and has no log yet: its program has written nothing, or its worker, which "
            "uploads the log every 30 s, has not uploaded it yet or is of an older version; try again with `--follow`"
        )
    elif attempt.claimed_at is None:
        why = f"no worker ran the attempt {name}, so it has no log"
    else:
        why = (
            f"the attempt {name} has no log: its program did not start or wrote nothing, its worker could not "
            "upload it or is of an older version, or retention has deleted it; `treadle show` says how it ended"
        )
    raise RequestRejected(HTTPStatus.NOT_FOUND, "log", why)
