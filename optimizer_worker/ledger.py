"""What was done to each row, by which rule, and why: the way back from a score to the rows behind it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Action(StrEnum):
    """What can happen to a row. `dropped` rows have an equal that stays; `quarantined` ones can come back."""

    KEPT = "kept"
    REWRITTEN = "rewritten"
    DROPPED = "dropped"
    QUARANTINED = "quarantined"
    HELD_OUT = "held_out"
    ADDED = "added"
    RELEASED = "released"
    REWEIGHTED = "reweighted"

    @property
    def removes(self) -> bool:
        """Whether the row is out of the training rows afterwards."""
        return self in {Action.DROPPED, Action.QUARANTINED}


@dataclass(frozen=True, slots=True)
class Verdict:
    """One rule's decision about one row; a line of `ledger.jsonl`, with the iteration."""

    row: str
    action: Action
    rule: str
    value: float | None = None
    """What was measured, and beside it the threshold it was held against."""
    threshold: float | None = None
    parent: str | None = None
    """The row it repeats, or the dev bad case that brought it in. Never a test row."""
    reason: str = ""
