"""Find equal or similar prompts that have different answers."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

from contracts.rows import Row
from optimizer_worker.ledger import Action, RuleDecision
from optimizer_worker.similarity.normalization import Words, normal, signs
from optimizer_worker.similarity.pairs import similar_pairs
from optimizer_worker.similarity.row_texts import compared_answer
from optimizer_worker.similarity.shared_text import prompt_words


class NearConflict(NamedTuple):
    """Two rows with similar prompts and different answers; it is only reported, for a person to decide."""

    prompt: str
    rows: tuple[str, str]
    answers: tuple[str, str]
    similarity: float


def label_conflicts(rows: Sequence[Row]) -> list[list[Row]]:
    """Return groups of rows whose prompts have the same distinguishing words, and that have more than one answer."""
    groups: dict[Words, list[Row]] = defaultdict(list)
    conversations = [row for row in rows if row.text is None]
    for row, prompt in zip(conversations, prompt_words(conversations), strict=True):
        groups[prompt].append(row)
    return [group for group in groups.values() if len({normal(compared_answer(row)) for row in group}) > 1]


def near_conflicts(rows: Sequence[Row], threshold: float) -> list[NearConflict]:
    """Return pairs of rows with similar but not equal prompts, the same numbers and symbols, and different answers."""
    prompts = prompt_words(rows)
    pairs = similar_pairs(prompts, threshold)
    conflicts = []
    for left, right, value in zip(pairs.left.tolist(), pairs.right.tolist(), pairs.similarity.tolist(), strict=True):
        one, other = rows[left], rows[right]
        near = prompts[left] != prompts[right] and signs(prompts[left]) == signs(prompts[right])
        answers = compared_answer(one), compared_answer(other)
        if near and normal(answers[0]) != normal(answers[1]):
            conflicts.append(NearConflict(one.prompt, (one.id, other.id), answers, round(value, 4)))
    return conflicts


def conflict_decisions(groups: Sequence[Sequence[Row]]) -> list[RuleDecision]:
    """Quarantine every row of the groups, because it is unknown which answer is right."""
    return [
        RuleDecision(row.id, Action.QUARANTINED, "label_conflict", len(group), 1, reason=_reason(group))
        for group in groups
        for row in group
    ]


def _reason(group: Sequence[Row]) -> str:
    answers = sorted({" ".join(compared_answer(row).split())[:80] for row in group})
    return f"this prompt has {len(answers)} different answers: {'; '.join(answers[:4])}"
