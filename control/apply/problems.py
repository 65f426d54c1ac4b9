"""Refusals as RFC 9457 problems, the same over HTTP and over the broker."""

from __future__ import annotations

from contracts.errors import FieldError, InvalidInput, TreadleError, UndecodableMessage
from contracts.submissions import Problem
from control.machine.task import IllegalTransition
from control.store.port import SubmissionConflict, TaskNotFound


def problem_of(error: TreadleError) -> Problem:
    """What a user is told of `error`."""
    match error:
        case InvalidInput():
            return Problem(title="Invalid input", status=422, detail=str(error), errors=error.errors)
        case UndecodableMessage():
            status = 422 if error.errors else 400
            return Problem(title="Undecodable message", status=status, detail=str(error), errors=error.errors)
        case TaskNotFound():
            return _about("taskId", "Not found", 404, error)
        case SubmissionConflict():
            return _about("Idempotency-Key", "Conflict", 409, error)
        case IllegalTransition():
            return _about("status", "Conflict", 409, error)
        case _:
            return Problem(title="Refused", status=400, detail=str(error))


def _about(field: str, title: str, status: int, error: TreadleError) -> Problem:
    named = (FieldError(field=field, message=str(error)),)
    return Problem(title=title, status=status, detail=str(error), errors=named)
