"""Short builders of rows and reports for the optimizer's tests."""

from __future__ import annotations

from collections.abc import Sequence

from contracts.options import Metric
from contracts.report import BadCase, DevReport, Score, SliceScore, Suggestion
from contracts.rows import Row, Turn


def row(prompt: str, answer: str, row_id: str = "", slice_name: str | None = None) -> Row:
    turns = (Turn(role="user", content=prompt), Turn(role="assistant", content=answer))
    return Row(id=row_id or prompt, turns=turns, slice=slice_name or answer)


def labelled(*pairs: tuple[str, str]) -> list[Row]:
    return [row(prompt, answer, f"r{number}") for number, (prompt, answer) in enumerate(pairs)]


def report(
    bad: Sequence[Row], slices: dict[str, tuple[float, int]], suggested: dict[str, int] | None = None
) -> DevReport:
    """A dev report: `slices` maps a slice to its score and number of rows, `suggested` maps it to the rows to add."""
    total = sum(rows for _, rows in slices.values())
    value = sum(score * rows for score, rows in slices.values()) / total
    return DevReport(
        score=Score(metric=Metric.EXACT_MATCH, value=value, low=0, high=1, scored=total),
        metrics={},
        slices=tuple(SliceScore(name=n, value=v, low=0, high=1, rows=c) for n, (v, c) in slices.items()),
        bad_cases=tuple(
            BadCase(row_id=r.id, slice=r.slice, prompt=r.prompt, expected=r.response, predicted="?", value=0)
            for r in bad
        ),
        suggestions=tuple(
            Suggestion(action="add_rows", slice=name, rows=rows, reason="weak")
            for name, rows in (suggested or {}).items()
        ),
    )
