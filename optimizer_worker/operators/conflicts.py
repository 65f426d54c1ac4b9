"""Find equal or similar prompts that have different answers."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

from contracts.rows import Row
from optimizer_worker.ledger import Action, RuleDecision
from optimizer_worker.similarity.normalization import normal, numbers
from optimizer_worker.similarity.pairs import similar_pairs


class NearConflict(NamedTuple):
    """Two rows with similar prompts and different answers; it is only reported, for a person to decide."""

    prompt: str
    rows: tuple[str, str]
    answers: tuple[str, str]
    similarity: float


def label_conflicts(rows: Sequence[Row]) -> list[list[Row]]:
    """Return groups of rows that have the same `normal` prompt and more than one answer."""
    groups: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        if row.text is None:
            groups[normal(row.prompt)].append(row)
    return [group for group in groups.values() if len({normal(row.response) for row in group}) > 1]


def near_conflicts(rows: Sequence[Row], threshold: float) -> list[NearConflict]:
    """Return pairs of rows with similar but not equal prompts, the same numbers in them, and different answers."""
    pairs = similar_pairs([row.prompt for row in rows], threshold)
    conflicts = []
    for left, right, value in zip(pairs.left.tolist(), pairs.right.tolist(), pairs.similarity.tolist(), strict=True):
        one, other = rows[left], rows[right]
        if _is_near_conflict(one, other):
            conflicts.append(
                NearConflict(one.prompt, (one.id, other.id), (one.response, other.response), round(value, 4))
            )
    return conflicts


def conflict_decisions(groups: Sequence[Sequence[Row]]) -> list[RuleDecision]:
    """Quarantine every row of the groups, because it is unknown which answer is right."""
    return [
        RuleDecision(row.id, Action.QUARANTINED, "label_conflict", len(group), 1, reason=_reason(group))
        for group in groups
        for row in group
    ]


def _reason(group: Sequence[Row]) -> str:
    answers = sorted({row.response[:80] for row in group})
    return f"this prompt has {len(answers)} different answers: {'; '.join(answers[:4])}"


def _is_near_conflict(one: Row, other: Row) -> bool:
    return (
        normal(one.response) != normal(other.response)
        and normal(one.prompt) != normal(other.prompt)
        and numbers(one.prompt) == numbers(other.prompt)
    )
