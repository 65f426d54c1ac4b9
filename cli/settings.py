"""Settings for the command line: a wrong `TREADLE_*` variable becomes a sentence that names it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from contracts.errors import FieldError, InvalidInput, finding
from infra.settings import Settings


def read_settings(given: Mapping[str, Any] | None = None) -> Settings:
    """Settings from the environment, with what was given on the command line on top. Raises InvalidInput."""
    try:
        return Settings(**{name: value for name, value in (given or {}).items() if value is not None})
    except ValidationError as error:
        raise InvalidInput(tuple(_named(item["loc"], item["msg"]) for item in error.errors())) from error


def _named(path: tuple[int | str, ...], message: str) -> FieldError:
    """A check over several settings names its variable itself, at the start of its message."""
    message = finding(message)
    if path:
        return FieldError(field=f"TREADLE_{str(path[0]).upper()}", message=message)
    field, _, rest = message.partition(": ")
    return FieldError(field=field, message=rest)
