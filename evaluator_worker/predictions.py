"""Every dev row's answer, so that a person can look behind the score."""

from __future__ import annotations

from pathlib import Path

from contracts.message import Frozen
from evaluator_worker.outcomes import Outcomes


class Prediction(Frozen):
    """One line of `dev_predictions.jsonl`."""

    row_id: str
    slice: str
    expected: str
    predicted: str
    value: float | None
    """None where the row could not be scored."""
    unscored: str | None = None
    """Why it could not."""


def write_predictions(path: Path, dev: Outcomes) -> None:
    """Write one line a dev row: the scored ones in the split's order, then the others."""
    scored = [
        Prediction(
            row_id=o.row.id,
            slice=o.row.slice,
            expected=o.row.response,
            predicted=o.predicted,
            value=dev.value([o]),
        )
        for o in dev.scored
    ]
    others = [
        Prediction(
            row_id=u.row.id, slice=u.row.slice, expected=u.row.response, predicted="", value=None, unscored=u.reason
        )
        for u in dev.unscored
    ]
    path.write_text("".join(f"{p.model_dump_json()}\n" for p in (*scored, *others)), encoding="utf-8")
