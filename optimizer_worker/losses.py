"""Stop if one rule would remove so many rows that the rule, and not the rows, is probably wrong."""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Sequence, Sized
from typing import Protocol

from infra.errors import BadInput
from optimizer_worker.ledger import RuleDecision
from optimizer_worker.spec import SEALED

ADVICE = {
    "near_duplicate": "if the rows do differ, raise nearDuplicate (at most 1)",
    "label_conflict": "if one prompt may have several answers, set answers to text",
    "wrong_label": "if the labels are right, set quarantineWrongLabels to false",
    "contaminated": "give dev and test rows that are not in the training rows, or none, to split them off",
}
"""What a person can change, by rule."""


class Ids(Container[str], Sized, Protocol):
    """The ids of the current rows."""


def check_loss(decisions: Sequence[RuleDecision], rows: Ids, max_loss: float) -> None:
    """Raise BadInput if a rule would remove more than the share `max_loss` of the rows."""
    removing = [decision for decision in decisions if decision.action.removes and decision.row in rows]
    for rule, count in Counter(decision.rule for decision in removing).items():
        if count > max_loss * len(rows):
            first = next(decision for decision in removing if decision.rule == rule)
            raise BadInput(_explanation(first, count, len(rows), max_loss), field="maxLoss")


def _explanation(first: RuleDecision, count: int, rows: int, max_loss: float) -> str:
    like = f", which repeats {first.parent}" if first.parent else ""
    because = f" ({first.reason})" if first.reason else ""
    example = "" if first.row.startswith(f"{SEALED}/") else f"; for example {first.row}{like}{because}"
    advice = ADVICE.get(first.rule, "correct the rows")
    return (
        f"the rule {first.rule} would remove {count} of {rows} rows, more than the share {max_loss:g} that maxLoss "
        f"allows{example}; {advice}, or set maxLoss to 1 to remove them"
    )
