"""Turns every error into RFC 9457 problem JSON that names the field; tracebacks are only logged."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus

import structlog
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from contracts.bounds import cut
from contracts.errors import MAX_ERRORS, FieldError, InvalidInput, TreadleError, error_text
from contracts.submissions import Problem
from control.apply.problems import problem_of
from control.machine.task import IllegalTransition
from control.store.port import StoreUnavailable, TaskNotFound
from control.store.values import SubmissionConflict
from infra.objects import ObjectStoreUnavailable

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER = "2"
"""Seconds after which a client may retry when the database or the object store is unavailable."""
TOO_LARGE = HTTPStatus.REQUEST_ENTITY_TOO_LARGE
LARGEST_BODY = 2**20
"""Bytes of a JSON body, which is held in memory completely."""
CLIENT_CLOSED_REQUEST = 499
"""The status that nginx logs for a client that disconnects early; no standard status exists."""
MAX_FIELD, MAX_MESSAGE, MAX_DETAIL, MAX_PATH = 200, 1000, 4000, 200
"""Characters of a field, a message, the detail and the path in a problem."""
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


class NotAnswered(TreadleError):
    """A part did not answer in time; `errors` names the parts that are not ready, or is empty."""

    def __init__(self, seconds: float, errors: tuple[FieldError, ...]) -> None:
        parts = ", ".join(error.field for error in errors) or "control"
        self.errors = errors or (FieldError(field="control", message="it is busy; retry later"),)
        super().__init__(f"no answer from {parts} within {seconds:g} seconds; the request may still take effect")


def install_error_handlers(app: FastAPI) -> None:
    """Register the handlers that answer every error of this app with a problem."""
    app.add_exception_handler(TreadleError, _on_treadle_error)
    app.add_exception_handler(RequestValidationError, _on_validation_error)
    app.add_exception_handler(HTTPException, _on_http_error)
    app.add_exception_handler(ClientDisconnect, _on_disconnect)
    app.add_exception_handler(Exception, _on_unexpected)


def path_of(request: Request) -> str:
    """The path of a request, cut to a length that can be logged."""
    path: str = request.scope["path"]
    return cut(path, MAX_PATH)


def status_problem(status: HTTPStatus, detail: str, *errors: FieldError) -> Problem:
    """A problem whose title is the standard phrase of `status`."""
    return Problem(title=status.phrase, status=status, detail=detail, errors=errors)


def problem_response(request: Request, problem: Problem, headers: Mapping[str, str] | None = None) -> Response:
    """A problem as a response, its lists and texts cut to their limits; its `instance` is the path of the request."""
    located = problem.model_copy(update={"instance": path_of(request), **_bounded(problem)})
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
        case NotAnswered():
            log.warning("request_not_answered", path=path_of(request), error=str(error))
            problem = status_problem(HTTPStatus.SERVICE_UNAVAILABLE, str(error), *error.errors)
            return problem_response(request, problem, {"Retry-After": RETRY_AFTER})
        case StoreUnavailable() | ObjectStoreUnavailable():
            log.warning("request_unavailable", path=path_of(request), error=str(error))
            return problem_response(request, _unavailable(error), {"Retry-After": RETRY_AFTER})
        case _:
            log.error("request_failed", path=path_of(request), exc_info=error)
            return await _on_unexpected(request, error)


async def _on_validation_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    errors = tuple(_field_error(item) for item in error.errors())
    detail = "; ".join(f"{e.field}: {e.message}" for e in errors[:MAX_ERRORS])
    return problem_response(request, status_problem(HTTPStatus.UNPROCESSABLE_ENTITY, detail, *errors))


async def _on_http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    path, status = path_of(request), HTTPStatus(error.status_code)
    match status:
        case HTTPStatus.NO_CONTENT:
            return Response(status_code=status)
        case HTTPStatus.NOT_FOUND:
            field, detail = "path", f"the path {path} does not exist; open /docs for a list of all paths"
        case HTTPStatus.METHOD_NOT_ALLOWED:
            allowed = (error.headers or {}).get("Allow", "another method")
            field, detail = "method", f"{request.method} is not allowed for {path}; expected {allowed}"
        case HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
            return too_large(request)
        case HTTPStatus.REQUEST_TIMEOUT:
            return _too_slow(request)
        case _:
            field, detail = "body", str(error.detail)
    return problem_response(
        request, status_problem(status, detail, FieldError(field=field, message=detail)), error.headers
    )


async def _on_disconnect(request: Request, _: Exception) -> Response:
    log.info("client_disconnected", path=path_of(request))
    return Response(status_code=CLIENT_CLOSED_REQUEST)


async def _on_unexpected(request: Request, _: Exception) -> Response:
    """Starlette raises the error again after this response, so that the server logs it."""
    return problem_response(
        request,
        status_problem(HTTPStatus.INTERNAL_SERVER_ERROR, "an unexpected error occurred; see the log of control"),
    )


def _too_slow(request: Request) -> Response:
    detail = "the body did not arrive in time; send it again without pauses"
    problem = status_problem(HTTPStatus.REQUEST_TIMEOUT, detail, FieldError(field="body", message=detail))
    return problem_response(request, problem, {"Connection": "close"})


def too_large(request: Request) -> Response:
    """The answer to a body that is too large."""
    detail = f"expected a body of at most {LARGEST_BODY} bytes"
    return problem_response(
        request, status_problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, detail, FieldError(field="body", message=detail))
    )


def _bounded(problem: Problem) -> dict[str, object]:
    """The texts of a problem within their limits."""
    errors = problem.errors
    short = tuple(FieldError(field=cut(e.field, MAX_FIELD), message=cut(e.message, MAX_MESSAGE)) for e in errors)
    return {"detail": cut(problem.detail, MAX_DETAIL), "errors": short}


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
