"""Read fields of a record; an error says what was expected."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Fields = Mapping[str, Any]


class RecordError(ValueError):
    """A record does not match its file's format; the text says what was expected."""


def required(record: Fields, field: str) -> str:
    """Return the string in `field`. Raises RecordError if there is none."""
    value = record.get(field)
    if isinstance(value, str):
        return value
    raise RecordError(f"{field}: expected a string, got {kind(value)}")


def optional(record: Fields, field: str) -> str:
    """Return the string in `field`, or an empty string if it is absent or null. Raises RecordError for other types."""
    return "" if record.get(field) is None else required(record, field)


def category(record: Fields) -> str:
    """Return the record's `category` or `slice`, or "all"."""
    for field in ("category", "slice"):
        value = record.get(field)
        if isinstance(value, str) and value.strip():
            return value.strip()
    return "all"


def kind(value: object) -> str:
    """Return the name of the value's type for an error text."""
    return "nothing" if value is None else type(value).__name__
