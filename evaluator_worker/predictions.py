"""Write the answer to every dev row, so that a person can inspect the score."""

from __future__ import annotations

from pathlib import Path

from contracts.message import Frozen
from evaluator_worker.row_results import RowResults


class Prediction(Frozen):
    """One line of `dev_predictions.jsonl`."""

    row_id: str
    slice: str
    expected: str
    predicted: str
    value: float | None
    """None if the row could not be scored."""
    unscored: str | None = None
    """The reason why the row could not be scored."""
    cut: bool = False
    """Whether the answer ended at the limit of new tokens and not at a stop token."""


def write_predictions(path: Path, dev: RowResults) -> None:
    """Write one line for each dev row: the scored rows in the order of the split, then the unscored."""
    scored = [
        Prediction(
            row_id=o.row.id,
            slice=o.row.slice,
            expected=o.row.response,
            predicted=o.predicted,
            value=dev.value([o]),
            cut=o.cut,
        )
        for o in dev.scored
    ]
    unscored = [
        Prediction(
            row_id=u.row.id, slice=u.row.slice, expected=u.row.response, predicted="", value=None, unscored=str(u)
        )
        for u in dev.unscored
    ]
    path.write_text("".join(f"{p.model_dump_json()}\n" for p in (*scored, *unscored)), encoding="utf-8")
