"""Suggest to the optimizer what to do about a report, if the numbers support it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from contracts.report import BadCase, Confusion, Score, SliceScore, Suggestion
from infra.statistics import largest_remainders

SHARES = 100
"""Sum of `rows` over all add_rows suggestions: they are shares, which the optimizer scales to its budget."""
MIN_CONFUSED_ROWS = 3
MIN_CONFUSED_SHARE = 0.25
"""A confusion is strong if each direction has at least this many rows and this share of its slice."""


def suggest(
    score: Score, slices: Sequence[SliceScore], bad_cases: Sequence[BadCase], confusions: Sequence[Confusion]
) -> tuple[Suggestion, ...]:
    """Suggest rows for the weak slices by their share of the errors, and a check of labels confused both ways."""
    cases: dict[str, list[BadCase]] = defaultdict(list)
    for case in bad_cases:
        cases[case.slice].append(case)
    return (*_add_rows(score, slices, cases), *_check_labels(slices, cases, confusions))


def weak_slices(score: Score, slices: Sequence[SliceScore]) -> list[SliceScore]:
    """Return the slices whose whole interval lies below the overall score; if none does, all slices below it."""
    certain = [s for s in slices if s.high < score.value]
    return certain or [s for s in slices if s.value < score.value]


def error_mass(part: SliceScore) -> float:
    """Return the score that the slice loses: its number of rows times (1 - value)."""
    return part.rows * (1 - part.value)


def _add_rows(score: Score, slices: Sequence[SliceScore], cases: dict[str, list[BadCase]]) -> list[Suggestion]:
    weak = sorted(weak_slices(score, slices), key=lambda s: (-error_mass(s), s.name))
    shares = largest_remainders([error_mass(s) for s in weak], SHARES)
    return [
        Suggestion(
            action="add_rows",
            slice=part.name,
            rows=share,
            reason=f"scores {part.value:.2f} ({part.low:.2f} to {part.high:.2f}), all rows {score.value:.2f}",
            bad_cases=tuple(case.row_id for case in cases[part.name]),
        )
        for part, share in zip(weak, shares, strict=True)
        if share > 0
    ]


def _check_labels(
    slices: Sequence[SliceScore], cases: dict[str, list[BadCase]], confusions: Sequence[Confusion]
) -> list[Suggestion]:
    counts = {(c.expected, c.predicted): c.rows for c in confusions}
    rows = {part.name: part.rows for part in slices}
    suggestions = []
    for (expected, predicted), count in counts.items():
        backward = counts.get((predicted, expected), 0)
        if expected < predicted and _is_strong(count, rows.get(expected)) and _is_strong(backward, rows.get(predicted)):
            suggestions.append(_label_check(expected, predicted, count, backward, cases))
    return suggestions


def _is_strong(count: int, rows: int | None) -> bool:
    return rows is not None and count >= max(MIN_CONFUSED_ROWS, MIN_CONFUSED_SHARE * rows)


def _label_check(one: str, other: str, forward: int, backward: int, cases: dict[str, list[BadCase]]) -> Suggestion:
    pair = {one, other}
    return Suggestion(
        action="check_labels",
        slice=one,
        rows=forward + backward,
        reason=f"{one} is answered as {other} {forward} times and the other way round {backward} times",
        bad_cases=tuple(c.row_id for name in (one, other) for c in cases[name] if {c.expected, c.predicted} == pair),
    )
