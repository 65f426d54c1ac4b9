"""One record of a file."""

from __future__ import annotations

from typing import NamedTuple

from optimizer_worker.reading.exact_json import repeated_field
from optimizer_worker.reading.fields import Fields, RecordError, kind, listed


class Record(NamedTuple):
    """One line of a file, or one item of a JSON document; if it cannot be read, `problem` is the reason."""

    line: int
    fields: Fields | None
    raw: str
    problem: RecordError | None = None


def shown(value: object) -> str:
    """Return `value` as text for the quarantine; empty if it is nested too deeply."""
    try:
        return repr(value)
    except RecursionError:
        return ""


def record_of(line: int, value: object, raw: str) -> Record:
    """Return the record of a parsed JSON value; a bare list of messages counts as a conversation."""
    if field := repeated_field(value):
        return Record(line, None, raw or shown(value), RecordError("a field is given twice", f": {listed([field])}"))
    if isinstance(value, dict):
        return Record(line, value, raw)
    if isinstance(value, list) and value and all(isinstance(item, dict) for item in value):
        return Record(line, {"messages": value}, raw)
    return Record(line, None, raw or shown(value), RecordError(f"expected an object, got {kind(value)}"))
