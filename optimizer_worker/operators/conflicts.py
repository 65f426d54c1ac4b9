"""Prompts that stand more than once, with different answers."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

from contracts.rows import Row
from optimizer_worker.ledger import Action, Verdict
from optimizer_worker.similarity.normalization import normal, numbers
from optimizer_worker.similarity.pairs import similar_pairs


class NearConflict(NamedTuple):
    """Two rows with nearly one prompt and two answers: reported, and left to a person."""

    prompt: str
    rows: tuple[str, str]
    answers: tuple[str, str]
    similarity: float


def label_conflicts(rows: Sequence[Row]) -> list[list[Row]]:
    """Groups of rows with one prompt, letter case and sentence marks aside, and more than one answer."""
    groups: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        if row.text is None:
            groups[normal(row.prompt)].append(row)
    return [group for group in groups.values() if len({normal(row.response) for row in group}) > 1]


def near_conflicts(rows: Sequence[Row], threshold: float) -> list[NearConflict]:
    """Pairs of rows whose prompts are alike but not equal, with the same numbers, and whose answers differ."""
    pairs = similar_pairs([row.prompt for row in rows], threshold)
    found = []
    for left, right, value in zip(pairs.left.tolist(), pairs.right.tolist(), pairs.similarity.tolist(), strict=True):
        one, other = rows[left], rows[right]
        if _differ(one, other):
            found.append(NearConflict(one.prompt, (one.id, other.id), (one.response, other.response), round(value, 4)))
    return found


def conflict_verdicts(groups: Sequence[Sequence[Row]]) -> list[Verdict]:
    """Quarantine every row of the groups: which answer is right is not known here."""
    return [
        Verdict(row.id, Action.QUARANTINED, "label_conflict", len(group), 1, reason=_reason(group))
        for group in groups
        for row in group
    ]


def _reason(group: Sequence[Row]) -> str:
    answers = sorted({row.response[:80] for row in group})
    return f"this prompt stands with {len(answers)} answers: {'; '.join(answers[:4])}"


def _differ(one: Row, other: Row) -> bool:
    return (
        normal(one.response) != normal(other.response)
        and normal(one.prompt) != normal(other.prompt)
        and numbers(one.prompt) == numbers(other.prompt)
    )
