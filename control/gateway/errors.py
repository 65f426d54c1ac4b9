"""Every error as RFC 9457 problem JSON that names the field; a traceback goes to the log, never to the user."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus

import structlog
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import Message, Receive, Scope, Send

from contracts.errors import FieldError, InvalidInput, TreadleError, finding
from contracts.submissions import Problem
from control.apply.problems import problem_of
from control.machine.task import IllegalTransition
from control.store.port import StoreUnavailable, SubmissionConflict, TaskNotFound
from infra.objects import ObjectStoreUnavailable

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER = "2"
"""Seconds after which a client may ask again when a part is away."""
LARGEST_BODY = 2**20
"""Bytes of a JSON body, which is held in memory whole."""
CLIENT_GONE = 499
_PLACES = frozenset({"body", "query", "path", "header"})

log = structlog.get_logger(__name__)


class Refused(TreadleError):
    """A request that is refused for what one field of it holds."""

    def __init__(self, status: HTTPStatus, field: str, message: str) -> None:
        self.status = status
        self.field = field
        self.message = message
        super().__init__(f"{field}: {message}")


def install(app: FastAPI) -> None:
    """Answer every error of this app with a problem."""
    app.add_exception_handler(TreadleError, _on_treadle_error)
    app.add_exception_handler(RequestValidationError, _on_validation_error)
    app.add_exception_handler(HTTPException, _on_http_error)
    app.add_exception_handler(ClientDisconnect, _on_disconnect)
    app.add_exception_handler(Exception, _on_unexpected)


class GatewayApp(FastAPI):
    """FastAPI, with a problem in place of the plain text by which Starlette refuses a `Content-Length` too large."""

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


def about(status: HTTPStatus, detail: str, *errors: FieldError) -> Problem:
    """A problem under the status's own title."""
    return Problem(title=status.phrase, status=status, detail=detail, errors=errors)


def answer(request: Request, problem: Problem, headers: Mapping[str, str] | None = None) -> Response:
    """A problem as a response; its `instance` is the path that was asked for."""
    located = problem.model_copy(update={"instance": request.url.path})
    return Response(
        located.model_dump_json(exclude_none=True),
        status_code=problem.status,
        media_type=MEDIA_TYPE,
        headers=dict(headers) if headers else None,
    )


async def _on_treadle_error(request: Request, error: Exception) -> Response:
    match error:
        case Refused():
            named = FieldError(field=error.field, message=error.message)
            return answer(request, about(error.status, str(error), named))
        case InvalidInput() | TaskNotFound() | IllegalTransition() | SubmissionConflict():
            return answer(request, problem_of(error))
        case StoreUnavailable() | ObjectStoreUnavailable():
            log.warning("request_not_served", path=request.url.path, error=str(error))
            return answer(request, _away(error), {"Retry-After": RETRY_AFTER})
        case _:
            log.error("request_failed", path=request.url.path, exc_info=error)
            return await _on_unexpected(request, error)


async def _on_validation_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    errors = tuple(_field_error(item) for item in error.errors())
    detail = "; ".join(f"{e.field}: {e.message}" for e in errors)
    return answer(request, about(HTTPStatus.UNPROCESSABLE_ENTITY, detail, *errors))


async def _on_http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    path, status = request.url.path, HTTPStatus(error.status_code)
    match status:
        case HTTPStatus.NO_CONTENT:
            return Response(status_code=status)
        case HTTPStatus.NOT_FOUND:
            field, detail = "path", f"there is nothing at {path}; /docs lists what is"
        case HTTPStatus.METHOD_NOT_ALLOWED:
            allowed = (error.headers or {}).get("Allow", "another method")
            field, detail = "method", f"{request.method} is not allowed at {path}; expected {allowed}"
        case HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
            return _too_large(request)
        case _:
            field, detail = "body", str(error.detail)
    return answer(request, about(status, detail, FieldError(field=field, message=detail)), error.headers)


async def _on_disconnect(request: Request, _: Exception) -> Response:
    log.info("client_disconnected", path=request.url.path)
    return Response(status_code=CLIENT_GONE)


async def _on_unexpected(request: Request, _: Exception) -> Response:
    """The server raises an unexpected error again after this answer, and so logs it."""
    return answer(
        request, about(HTTPStatus.INTERNAL_SERVER_ERROR, "something went wrong here; the log of control says what")
    )


def _too_large(request: Request) -> Response:
    detail = f"expected at most {LARGEST_BODY} bytes"
    return answer(request, about(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, detail, FieldError(field="body", message=detail)))


def _away(error: TreadleError) -> Problem:
    part = "database" if isinstance(error, StoreUnavailable) else "object_store"
    detail = f"the {part.replace('_', ' ')} is away; ask again soon"
    return about(HTTPStatus.SERVICE_UNAVAILABLE, detail, FieldError(field=part, message=detail))


def _field_error(item: Mapping[str, object]) -> FieldError:
    """One of pydantic's findings; where it stands is said without "body", and a bad JSON text has no field."""
    place = item.get("loc", ())
    assert isinstance(place, tuple)
    if item.get("type") == "json_invalid":
        return FieldError(field="body", message=f"expected JSON; it breaks at character {place[-1]}")
    path = place[1:] if place and place[0] in _PLACES else place
    return FieldError(field=".".join(str(part) for part in path) or "body", message=finding(str(item.get("msg"))))
