"""The settings of the command line; the error for an invalid `TREADLE_*` variable names the variable."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from contracts.errors import FieldError, InvalidInput, error_text
from infra.logs import configure_logs
from infra.settings import Settings


def read_settings(given: Mapping[str, Any] | None = None) -> Settings:
    """Settings from the environment, overridden by `given` unless None. Raises InvalidInput if one is invalid.

    Warnings of the parts that a command then uses go to standard error, until a service configures its own logs.
    """
    log_warnings()
    try:
        return Settings(**{name: value for name, value in (given or {}).items() if value is not None})
    except ValidationError as error:
        raise InvalidInput(tuple(_named(item["loc"], item["msg"]) for item in error.errors())) from error


def log_warnings() -> None:
    """Log warnings as lines on standard error; without this, structlog prints all events to standard output, raw."""
    configure_logs(Settings.model_construct(log_level="WARNING"), "treadle", final=False)


def _named(path: tuple[int | str, ...], message: str) -> FieldError:
    """Name the variable of an error; if it has no path, its message starts with the variable's name."""
    message = error_text(message)
    if path:
        return FieldError(field=f"TREADLE_{str(path[0]).upper()}", message=message)
    field, _, rest = message.partition(": ")
    return FieldError(field=field, message=rest)
