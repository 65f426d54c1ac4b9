"""The root of every error that Treadle raises on purpose."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class TreadleError(Exception):
    """Root of all of Treadle's own errors; its text is a sentence for a person."""


class FieldError(BaseModel):
    """One thing that is wrong with one field of an input."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    field: str
    message: str
    """What was wrong and what was expected."""


def finding(message: str) -> str:
    """What pydantic found, in the words of the check that found it."""
    return message.removeprefix("Value error, ")


class InvalidInput(TreadleError):
    """An input was refused; `errors` names each field and what was expected of it."""

    def __init__(self, errors: tuple[FieldError, ...]) -> None:
        self.errors = errors
        super().__init__("; ".join(f"{e.field}: {e.message}" for e in errors))


class UndecodableMessage(TreadleError):
    """A message body that no reader here understands: not JSON, unknown kind or version, bad field."""

    def __init__(self, reason: str, errors: tuple[FieldError, ...] = ()) -> None:
        self.reason = reason
        self.errors = errors
        """The fields at fault, where the kind and version were known."""
        super().__init__(reason)
