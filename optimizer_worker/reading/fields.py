"""Fields of a record, read with an error that says what was expected."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Fields = Mapping[str, Any]


class Unfit(ValueError):
    """A record that does not fit its file's format; the text says what was expected."""


def required(record: Fields, field: str) -> str:
    """The string in `field`. Raises Unfit where there is none."""
    value = record.get(field)
    if isinstance(value, str):
        return value
    raise Unfit(f"{field}: expected a string, got {kind(value)}")


def optional(record: Fields, field: str) -> str:
    """The string in `field`; empty where it is absent or null."""
    return "" if record.get(field) is None else required(record, field)


def category(record: Fields) -> str:
    """The slice that a record names for itself, or "all"."""
    for field in ("category", "slice"):
        value = record.get(field)
        if isinstance(value, str) and value.strip():
            return value.strip()
    return "all"


def kind(value: object) -> str:
    """A value's type, in a word for an error."""
    return "nothing" if value is None else type(value).__name__
