"""The HTTP client of the gateway: requests, uploads, and the event stream of a task."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from uuid import UUID

import httpx
from httpx_sse import EventSource, SSEError, aconnect_sse
from pydantic import TypeAdapter

from contracts.errors import FieldError, InvalidInput, TreadleError
from contracts.files import FilesView
from contracts.http import DatasetView, ExecutionView, LogChunk, LogHeader, TaskView
from contracts.submissions import Problem
from contracts.tasks import AttemptName
from contracts.waiting import TaskDetail
from infra.safe_text import safe_text

TIMEOUT = 30.0
"""Seconds until a response must arrive; the gateway gives up earlier and names the part that does not answer."""
PORTS = range(1, 1 << 16)
PAGE_SIZE = 1000
"""Entries of a page that is fetched as a part of a list."""
_ATTEMPTS = TypeAdapter(list[ExecutionView])
FIRST_WAIT, LONGEST_WAIT = 0.5, 10.0
"""Seconds between two attempts to reconnect a lost stream; the time doubles after each failure."""


class GatewayUnreachable(TreadleError):
    """No gateway listens at `url`, or it did not answer, for the reason `cause`."""

    def __init__(self, url: str, cause: Exception | None = None) -> None:
        self.url = url
        super().__init__(_why_unreachable(url, cause))


class RequestRefused(TreadleError):
    """The gateway refused a request; `wrong_input` is true if the request itself was invalid (400, 413 or 422).

    Its text has one line for each invalid field.
    """

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.wrong_input = problem.status in {400, 413, 422}
        fields = [f"{error.field}: {error.message}" for error in problem.errors]
        super().__init__("\n".join(map(safe_text, fields or [problem.detail or problem.title])))


@dataclass(frozen=True, slots=True)
class Update:
    """One event of a task's stream: a row of its history, or the newest progress of an attempt."""

    kind: str
    data: dict[str, Any]


@dataclass(frozen=True, slots=True)
class LogPage:
    """Bytes of a log from `offset` to `next_offset`; the whole log has `size` bytes so far."""

    data: bytes
    offset: int
    next_offset: int
    size: int


class GatewayClient:
    """An HTTP client for one gateway. Raises InvalidInput, GatewayUnreachable or RequestRefused, never httpx errors."""

    def __init__(self, url: str) -> None:
        self.url = checked_url(url).rstrip("/")
        self._http = httpx.AsyncClient(base_url=self.url, timeout=TIMEOUT)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._http.aclose()

    async def get(self, path: str, **query: str | int | None) -> object:
        """Return the JSON at `path`; query values that are None are left out."""
        given = {name: value for name, value in query.items() if value is not None}
        return await self._send(self._http.build_request("GET", path, params=given))

    async def post(self, path: str, body: object = None, **headers: str) -> object:
        """Send `body` as JSON and return the JSON of the response."""
        return await self._send(self._http.build_request("POST", path, json=body, headers=headers))

    async def task(self, task_id: UUID | str) -> TaskDetail:
        """Fetch one task."""
        return TaskDetail.model_validate(await self.get(f"/api/tasks/{task_id}"))

    async def attempts(self, task_id: UUID | str) -> list[ExecutionView]:
        """Fetch all attempts of a task, oldest first, page by page."""
        found = list[ExecutionView]()
        for page in itertools.count(1):
            answer = await self.get(f"/api/tasks/{task_id}/executions", page=page, pageSize=PAGE_SIZE)
            attempts = _ATTEMPTS.validate_python(answer)
            found += attempts
            if len(attempts) < PAGE_SIZE:
                break
        return found

    async def submit(self, mode: str, body: dict[str, Any], *, key: str | None = None) -> TaskView:
        """Create a task; a repeated call with the same `key` and body returns the same task."""
        headers = {"Idempotency-Key": key} if key else {}
        return TaskView.model_validate(await self.post(f"/api/tasks/{mode.lower()}", body, **headers))

    async def upload(
        self, file: Path, *, name: str, dataset_type: str, domain: str | None, user_id: int
    ) -> DatasetView:
        """Upload a file as a dataset; it is streamed, not read into memory."""
        form = {"name": name, "datasetType": dataset_type, "userId": str(user_id)}
        if domain is not None:
            form["domain"] = domain
        with file.open("rb") as stream:
            files = {"file": (file.name, stream)}
            request = self._http.build_request(
                "POST", "/api/datasets/upload", data=form, files=files, timeout=_UPLOAD_TIMEOUT
            )
            return DatasetView.model_validate(await self._send(request))

    async def files(self, path: str) -> FilesView:
        """Fetch the list of files at `path`."""
        return FilesView.model_validate(await self.get(path))

    async def read_file(self, path: str, *, start: int = 0) -> AsyncIterator[bytes]:
        """Yield the bytes of a file from byte `start` on."""
        headers = {"Range": f"bytes={start}-"} if start else {}
        try:
            async with self._http.stream("GET", path, headers=headers, timeout=_STREAM_TIMEOUT) as answer:
                if not answer.is_success:
                    await answer.aread()
                    raise RequestRefused(problem_of(answer))
                async for piece in answer.aiter_raw():
                    yield piece
        except httpx.TransportError as error:
            raise GatewayUnreachable(self.url, error) from error

    async def follow(self, task_id: UUID | str) -> AsyncIterator[Update]:
        """Yield the history of a task, then its events until it ends; a lost stream resumes after the last event."""
        await self.get(f"/api/tasks/{task_id}")
        async for update in self._updates(f"/api/tasks/{task_id}/progress"):
            yield update

    async def log_page(self, task_id: UUID | str, attempt: AttemptName, **query: int) -> LogPage:
        """Fetch a page of the log of an attempt's program."""
        answer = await self._answer(self._http.build_request("GET", _log_path(task_id, attempt), params=query))
        numbers = (LogHeader.OFFSET, LogHeader.NEXT_OFFSET, LogHeader.SIZE)
        return LogPage(answer.content, *(int(answer.headers.get(name, 0)) for name in numbers))

    async def follow_log(self, task_id: UUID | str, attempt: AttemptName, offset: int) -> AsyncIterator[LogChunk]:
        """Yield the log of an attempt from byte `offset` on until the attempt ends; a lost stream resumes."""
        async for update in self._updates(_log_path(task_id, attempt), follow="true", offset=str(offset)):
            if update.kind == "end":
                return
            yield LogChunk.model_validate(update.data)

    async def _updates(self, path: str, **query: str) -> AsyncIterator[Update]:
        last_id, wait = "", FIRST_WAIT
        while True:
            try:
                async with self._stream(path, query, last_id) as source:
                    if source.response.status_code == HTTPStatus.NO_CONTENT:
                        return
                    if source.response.is_client_error:
                        await source.response.aread()
                        raise RequestRefused(problem_of(source.response))
                    async for event in source.aiter_sse():
                        last_id, wait = event.id or last_id, FIRST_WAIT
                        if event.data:  # a heartbeat of the stream has no data
                            yield Update(event.event, json.loads(event.data))
            except (httpx.TransportError, SSEError):
                wait = min(wait * 2, LONGEST_WAIT)
            await asyncio.sleep(wait)

    def _stream(self, path: str, query: dict[str, str], last_id: str) -> AbstractAsyncContextManager[EventSource]:
        headers = {"Last-Event-ID": last_id} if last_id else {}
        return aconnect_sse(self._http, "GET", path, params=query, headers=headers, timeout=_STREAM_TIMEOUT)

    async def _send(self, request: httpx.Request) -> object:
        return (await self._answer(request)).json()

    async def _answer(self, request: httpx.Request) -> httpx.Response:
        try:
            answer = await self._http.send(request)
        except httpx.TransportError as error:
            raise GatewayUnreachable(self.url, error) from error
        if answer.is_success:
            return answer
        raise RequestRefused(problem_of(answer))


def _log_path(task_id: UUID | str, attempt: AttemptName) -> str:
    return f"/api/tasks/{task_id}/attempts/{attempt}/log"


_STREAM_TIMEOUT = httpx.Timeout(TIMEOUT, read=60.0)
"""The gateway sends a comment more often than once a minute, so a longer silence means a lost connection."""


_UPLOAD_TIMEOUT = httpx.Timeout(TIMEOUT, read=180.0, write=120.0)
"""The gateway reads no further bytes while it stores a part, and answers after it has stored the last one."""


def _why_unreachable(url: str, cause: Exception | None) -> str:
    match cause:
        case None | httpx.ConnectError() | httpx.ConnectTimeout():
            return f"no gateway answers at {url}: start one with `treadle up`, or give another address with --url"
        case httpx.TimeoutException():
            return (
                f"the gateway at {url} accepted the request and did not answer in time; the request may still take "
                "effect. Look for the reason with `treadle doctor` and in the log of control"
            )
        case _:
            why = str(cause) or type(cause).__name__
            return f"no gateway answers at {url} any more ({why}); the request may still take effect. Try again"


def checked_url(url: str) -> str:
    """Return `url`. Raises InvalidInput for --url if it is not an http or https address."""
    try:
        parts = httpx.URL(url)
        valid = parts.scheme in {"http", "https"} and parts.host and (parts.port is None or parts.port in PORTS)
    except httpx.InvalidURL:
        valid = False
    if valid:
        return url
    message = f"{url!r} is not an address; expected http://HOST:PORT, for example http://127.0.0.1:8080"
    raise InvalidInput((FieldError(field="--url", message=message),))


def problem_of(answer: httpx.Response) -> Problem:
    """The problem in the response body, or one made from the status if the body holds none."""
    try:
        return Problem.model_validate_json(answer.content)
    except ValueError:
        title = f"{answer.status_code} {answer.reason_phrase}"
        return Problem(title=title, status=answer.status_code, detail=f"{answer.url} answered {title}")
