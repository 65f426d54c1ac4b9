"""The base class of Treadle's errors, and the errors about inputs."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class TreadleError(Exception):
    """Base class of Treadle's own errors. Its text is a sentence for users."""


class FieldError(BaseModel):
    """One error in one field of an input."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    field: str
    message: str
    """What is wrong and what was expected."""


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
