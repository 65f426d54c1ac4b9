"""The base class of Treadle's errors, and the errors about inputs."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from contracts.bounds import MessageText

MAX_ERRORS = 50
"""Maximum errors that one problem lists."""


class TreadleError(Exception):
    """Base class of Treadle's own errors. Its text is a sentence for users."""


class PartUnavailable(TreadleError):
    """A part on which Treadle depends cannot be reached or does not answer; the same call may succeed later."""


class FieldError(BaseModel):
    """One error in one field of an input."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    field: MessageText
    message: MessageText
    """What is wrong and what was expected."""


def _first_errors(errors: object) -> object:
    if not isinstance(errors, tuple) or len(errors) <= MAX_ERRORS:
        return errors
    rest = len(errors) - MAX_ERRORS + 1
    return (*errors[: MAX_ERRORS - 1], FieldError(field="body", message=f"{rest} more errors are not listed"))


Errors = Annotated[tuple[FieldError, ...], Field(max_length=MAX_ERRORS), BeforeValidator(_first_errors)]
"""The first errors of an input; the last entry counts those that are not listed."""


def error_text(message: str) -> str:
    """The message of a pydantic error, without the prefix that pydantic adds to a ValueError."""
    return message.removeprefix("Value error, ")


class InvalidInput(TreadleError):
    """An input is invalid; `errors` names each invalid field and what was expected."""

    def __init__(self, errors: tuple[FieldError, ...]) -> None:
        self.errors = errors
        super().__init__("; ".join(f"{e.field}: {e.message}" for e in errors))


class UndecodableMessage(TreadleError):
    """A message body cannot be decoded: it is not JSON, its kind or version is unknown, or a field is invalid."""

    def __init__(self, reason: str, errors: tuple[FieldError, ...] = ()) -> None:
        self.reason = reason
        self.errors = errors
        """The invalid fields, if the kind and version are known."""
        super().__init__(reason)


class AccountRequired(TreadleError):
    """A message does not name, as its `user_id`, the account on the broker that published it."""
