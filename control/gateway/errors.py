"""Turns every error into RFC 9457 problem JSON that names the field; tracebacks are only logged."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus

import structlog
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import Message, Receive, Scope, Send

from contracts.errors import FieldError, InvalidInput, TreadleError, error_text
from contracts.submissions import Problem
from control.apply.problems import problem_of
from control.machine.task import IllegalTransition
from control.store.port import StoreUnavailable, TaskNotFound
from control.store.values import SubmissionConflict
from infra.objects import ObjectStoreUnavailable

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER = "2"
"""Seconds after which a client may retry when the database or the object store is unavailable."""
LARGEST_BODY = 2**20
"""Bytes of a JSON body, which is held in memory completely."""
CLIENT_CLOSED_REQUEST = 499
"""The status that nginx logs for a client that disconnects early; no standard status exists."""
_LOCATIONS = frozenset({"body", "query", "path", "header"})

log = structlog.get_logger(__name__)


class RequestRejected(TreadleError):
    """A request that is refused because of the value of one field; `retry_after` is in seconds, None without it."""

    def __init__(self, status: HTTPStatus, field: str, message: str, retry_after: int | None = None) -> None:
        self.status = status
        self.field = field
        self.message = message
        self.headers = {} if retry_after is None else {"Retry-After": str(retry_after)}
        super().__init__(f"{field}: {message}")


def install_error_handlers(app: FastAPI) -> None:
    """Register the handlers that answer every error of this app with a problem."""
    app.add_exception_handler(TreadleError, _on_treadle_error)
    app.add_exception_handler(RequestValidationError, _on_validation_error)
    app.add_exception_handler(HTTPException, _on_http_error)
    app.add_exception_handler(ClientDisconnect, _on_disconnect)
    app.add_exception_handler(Exception, _on_unexpected)


class GatewayApp(FastAPI):
    """FastAPI, but a too large `Content-Length` is refused with a problem instead of Starlette's plain text."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        refused = False

        async def send_problem(message: Message) -> None:
            nonlocal refused
            if message["type"] == "http.response.start" and message["status"] == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
                refused = (b"content-type", b"text/plain; charset=utf-8") in message["headers"]
                if refused:
                    await _too_large(Request(scope))(scope, receive, send)
            if not refused:
                await send(message)

        await super().__call__(scope, receive, send_problem)


def status_problem(status: HTTPStatus, detail: str, *errors: FieldError) -> Problem:
    """A problem whose title is the standard phrase of `status`."""
    return Problem(title=status.phrase, status=status, detail=detail, errors=errors)


def problem_response(request: Request, problem: Problem, headers: Mapping[str, str] | None = None) -> Response:
    """A problem as a response; its `instance` is the path of the request."""
    located = problem.model_copy(update={"instance": request.url.path})
    return Response(
        located.model_dump_json(exclude_none=True),
        status_code=problem.status,
        media_type=MEDIA_TYPE,
        headers=dict(headers) if headers else None,
    )


async def _on_treadle_error(request: Request, error: Exception) -> Response:
    match error:
        case RequestRejected():
            field_error = FieldError(field=error.field, message=error.message)
            return problem_response(request, status_problem(error.status, str(error), field_error), error.headers)
        case InvalidInput() | TaskNotFound() | IllegalTransition() | SubmissionConflict():
            return problem_response(request, problem_of(error))
        case StoreUnavailable() | ObjectStoreUnavailable():
            log.warning("request_unavailable", path=request.url.path, error=str(error))
            return problem_response(request, _unavailable(error), {"Retry-After": RETRY_AFTER})
        case _:
            log.error("request_failed", path=request.url.path, exc_info=error)
            return await _on_unexpected(request, error)


async def _on_validation_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    errors = tuple(_field_error(item) for item in error.errors())
    detail = "; ".join(f"{e.field}: {e.message}" for e in errors)
    return problem_response(request, status_problem(HTTPStatus.UNPROCESSABLE_ENTITY, detail, *errors))


async def _on_http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    path, status = request.url.path, HTTPStatus(error.status_code)
    match status:
        case HTTPStatus.NO_CONTENT:
            return Response(status_code=status)
        case HTTPStatus.NOT_FOUND:
            field, detail = "path", f"the path {path} does not exist; open /docs for a list of all paths"
        case HTTPStatus.METHOD_NOT_ALLOWED:
            allowed = (error.headers or {}).get("Allow", "another method")
            field, detail = "method", f"{request.method} is not allowed for {path}; expected {allowed}"
        case HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
            return _too_large(request)
        case _:
            field, detail = "body", str(error.detail)
    return problem_response(
        request, status_problem(status, detail, FieldError(field=field, message=detail)), error.headers
    )


async def _on_disconnect(request: Request, _: Exception) -> Response:
    log.info("client_disconnected", path=request.url.path)
    return Response(status_code=CLIENT_CLOSED_REQUEST)


async def _on_unexpected(request: Request, _: Exception) -> Response:
    """Starlette raises the error again after this response, so that the server logs it."""
    return problem_response(
        request,
        status_problem(HTTPStatus.INTERNAL_SERVER_ERROR, "an unexpected error occurred; see the log of control"),
    )


def _too_large(request: Request) -> Response:
    detail = f"expected a body of at most {LARGEST_BODY} bytes"
    return problem_response(
        request, status_problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, detail, FieldError(field="body", message=detail))
    )


def _unavailable(error: TreadleError) -> Problem:
    part = "database" if isinstance(error, StoreUnavailable) else "object_store"
    detail = f"the {part.replace('_', ' ')} is unavailable; retry in {RETRY_AFTER} seconds"
    return status_problem(HTTPStatus.SERVICE_UNAVAILABLE, detail, FieldError(field=part, message=detail))


def _field_error(item: Mapping[str, object]) -> FieldError:
    """Convert one pydantic error; the path has no prefix such as "body", but invalid JSON has the field "body"."""
    location = item.get("loc", ())
    assert isinstance(location, tuple)
    if item.get("type") == "json_invalid":
        return FieldError(field="body", message=f"expected valid JSON; the syntax error is at character {location[-1]}")
    path = location[1:] if location and location[0] in _LOCATIONS else location
    return FieldError(field=".".join(str(part) for part in path) or "body", message=error_text(str(item.get("msg"))))
