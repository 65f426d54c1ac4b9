"""Errors as RFC 9457 problem details, the same over HTTP and over the broker."""

from __future__ import annotations

from contracts.errors import AccountRequired, FieldError, InvalidInput, TreadleError, UndecodableMessage
from contracts.submissions import Problem
from control.machine.task import IllegalTransition
from control.store.port import TaskNotFound
from control.store.values import SubmissionConflict


def problem_of(error: TreadleError) -> Problem:
    """The problem details that a user receives for `error`."""
    match error:
        case InvalidInput():
            return Problem(title="Invalid input", status=422, detail=str(error), errors=error.errors)
        case UndecodableMessage():
            status = 422 if error.errors else 400
            return Problem(title="Undecodable message", status=status, detail=str(error), errors=error.errors)
        case TaskNotFound():
            return _field_problem("taskId", "Not found", 404, error)
        case SubmissionConflict():
            return _field_problem("Idempotency-Key", "Conflict", 409, error)
        case IllegalTransition():
            return _field_problem("status", "Conflict", 409, error)
        case AccountRequired():
            return _field_problem("user_id", "Account required", 403, error)
        case _:
            return Problem(title="Refused", status=400, detail=str(error))


def _field_problem(field: str, title: str, status: int, error: TreadleError) -> Problem:
    errors = (FieldError(field=field, message=str(error)),)
    return Problem(title=title, status=status, detail=str(error), errors=errors)
