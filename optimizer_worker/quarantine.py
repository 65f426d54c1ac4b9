"""Rows and lines that were removed from training but are kept, so that no data is lost."""

from __future__ import annotations

from contracts.message import Frozen
from contracts.rows import Row


class Quarantined(Frozen):
    """One line of `quarantine.jsonl`: a row that a rule removed, or a line of a file that is no row."""

    rule: str
    reason: str
    row: Row | None = None
    file: str | None = None
    line: int | None = None
    """Line of a CSV or JSONL file, or item of a JSON array, counted from 1."""
    content: str | None = None
    """The beginning of the line; None if the line belongs to the sealed test split."""
