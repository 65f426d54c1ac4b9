"""Record what was done to each row, by which rule and why, to trace a score back to rows."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Action(StrEnum):
    """What a rule does to a row: a `dropped` row is gone, a `quarantined` row can be released later."""

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
        """Whether the action removes the row from the training rows."""
        return self in {Action.DROPPED, Action.QUARANTINED}


@dataclass(frozen=True, slots=True)
class RuleDecision:
    """One rule's decision about one row; with the iteration, a line of `ledger.jsonl`."""

    row: str
    action: Action
    rule: str
    value: float | None = None
    """The measured value, which the rule compared with `threshold`."""
    threshold: float | None = None
    parent: str | None = None
    """The row that this row repeats, or the dev bad case it was drawn for; never a test row."""
    reason: str = ""
