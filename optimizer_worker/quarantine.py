"""Rows and lines that were taken out and kept aside, so that nothing is lost."""

from __future__ import annotations

from contracts.message import Frozen
from contracts.rows import Row


class Quarantined(Frozen):
    """One line of `quarantine.jsonl`: a row that a rule took out, or a line of a file that could not be read."""

    rule: str
    reason: str
    row: Row | None = None
    file: str | None = None
    line: int | None = None
    """Of a CSV or JSONL file, counted from 1; of a JSON array, the number of the item."""
    content: str | None = None
    """The start of the unreadable line; None where it may belong to the sealed test."""
