"""Every error as RFC 9457 problem JSON that names the field; a traceback goes to the log, never to the user."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus

import structlog
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from contracts.errors import FieldError, InvalidInput, TreadleError
from contracts.submissions import Problem
from control.store.port import StoreUnavailable, SubmissionConflict, TaskNotFound
from control.task import IllegalTransition
from infra.objects import ObjectStoreUnavailable

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER = 2
"""Seconds after which a client may ask again when a part is away."""
CLIENT_GONE = 499
_PLACES = frozenset({"body", "query", "path", "header"})

log = structlog.get_logger(__name__)


class Refused(TreadleError):
    """A request that is refused for what one field of it holds."""

    def __init__(self, status: HTTPStatus, field: str, message: str) -> None:
        self.status = status
        self.error = FieldError(field=field, message=message)
        super().__init__(f"{field}: {message}")


def install(app: FastAPI) -> None:
    """Answer every error of this app with a problem."""
    app.add_exception_handler(TreadleError, _on_treadle_error)
    app.add_exception_handler(RequestValidationError, _on_validation_error)
    app.add_exception_handler(HTTPException, _on_http_error)
    app.add_exception_handler(ClientDisconnect, _on_disconnect)
    app.add_exception_handler(Exception, _on_unexpected)


def problem(
    request: Request,
    status: HTTPStatus,
    detail: str,
    errors: tuple[FieldError, ...] = (),
    headers: Mapping[str, str] | None = None,
) -> Response:
    """A problem as a response; its `instance` is the path asked for."""
    body = Problem(title=status.phrase, status=status, detail=detail, instance=request.url.path, errors=errors)
    return Response(
        body.model_dump_json(exclude_none=True),
        status_code=status,
        media_type=MEDIA_TYPE,
        headers=dict(headers) if headers else None,
    )


async def _on_treadle_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, TreadleError)
    match error:
        case Refused():
            return problem(request, error.status, str(error), (error.error,))
        case InvalidInput():
            return problem(request, HTTPStatus.UNPROCESSABLE_ENTITY, str(error), error.errors)
        case TaskNotFound():
            return problem(request, HTTPStatus.NOT_FOUND, str(error), _field("taskId", error))
        case IllegalTransition():
            return problem(request, HTTPStatus.CONFLICT, str(error), _field("status", error))
        case SubmissionConflict():
            return problem(request, HTTPStatus.CONFLICT, str(error), _field("Idempotency-Key", error))
        case StoreUnavailable() | ObjectStoreUnavailable():
            log.warning("request_not_served", path=request.url.path, error=str(error))
            return _away(request, error)
        case _:
            log.error("request_failed", path=request.url.path, exc_info=error)
            return _unexpected(request)


async def _on_validation_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    errors = tuple(_field_error(item) for item in error.errors())
    detail = "; ".join(f"{e.field}: {e.message}" for e in errors)
    return problem(request, HTTPStatus.UNPROCESSABLE_ENTITY, detail, errors)


async def _on_http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    status = HTTPStatus(error.status_code)
    if status is HTTPStatus.NOT_FOUND:
        detail = f"there is nothing at {request.url.path}; /docs lists what is"
        return problem(request, status, detail, (FieldError(field="path", message=detail),))
    if status is HTTPStatus.METHOD_NOT_ALLOWED:
        allowed = (error.headers or {}).get("Allow", "another method")
        detail = f"{request.method} is not allowed at {request.url.path}; expected {allowed}"
        return problem(request, status, detail, (FieldError(field="method", message=detail),), error.headers)
    return problem(request, status, str(error.detail), headers=error.headers)


async def _on_disconnect(request: Request, _: Exception) -> Response:
    log.info("client_disconnected", path=request.url.path)
    return Response(status_code=CLIENT_GONE)


async def _on_unexpected(request: Request, _: Exception) -> Response:
    """The server raises the error again after this answer, and logs it."""
    return _unexpected(request)


def _away(request: Request, error: TreadleError) -> Response:
    detail = "a part that this needs is away; nothing was changed, ask again"
    part = "database" if isinstance(error, StoreUnavailable) else "objectStore"
    errors = (FieldError(field=part, message=detail),)
    return problem(request, HTTPStatus.SERVICE_UNAVAILABLE, detail, errors, {"Retry-After": str(RETRY_AFTER)})


def _unexpected(request: Request) -> Response:
    return problem(
        request, HTTPStatus.INTERNAL_SERVER_ERROR, "something went wrong here; the log of control says what"
    )


def _field(name: str, error: TreadleError) -> tuple[FieldError, ...]:
    return (FieldError(field=name, message=str(error)),)


def _field_error(item: Mapping[str, object]) -> FieldError:
    """One of pydantic's findings; where it stands is said without "body", and a bad JSON text has no field."""
    place = item.get("loc", ())
    assert isinstance(place, tuple)
    if item.get("type") == "json_invalid":
        return FieldError(field="body", message="expected JSON; it breaks at character " + str(place[-1]))
    path = place[1:] if place and place[0] in _PLACES else place
    return FieldError(field=".".join(str(part) for part in path) or "body", message=str(item.get("msg")))
