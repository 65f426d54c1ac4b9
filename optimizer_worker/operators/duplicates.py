"""Rows that say again what another row says: the same prompt AND the same answer.

A prompt that stands twice with different answers is no duplicate, see conflicts.py. On real mixes most of what a
whole-text deduplication drops has another answer than the row it keeps.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import hstack

from contracts.rows import Row
from optimizer_worker.ledger import Action, Verdict
from optimizer_worker.similarity.normalization import normal, numbers, words
from optimizer_worker.similarity.pairs import Pairs, candidates, jaccard, merged
from optimizer_worker.similarity.shingles import WORDS_IN_SHINGLE, runs, views

LABEL_WORDS = 5
"""Answers up to this long are alike only when they are equal: "card lost" is not "card stolen"."""


def exact_duplicates(rows: Sequence[Row]) -> list[Verdict]:
    """Drop rows whose prompt and answer are those of an earlier row, letter case and sentence marks aside."""
    first: dict[tuple[str, str], str] = {}
    verdicts = []
    for row in rows:
        parent = first.setdefault((normal(row.prompt), normal(row.response)), row.id)
        if parent != row.id:
            verdicts.append(Verdict(row.id, Action.DROPPED, "exact_duplicate", 1.0, 1.0, parent))
    return verdicts


def near_duplicates(rows: Sequence[Row], threshold: float) -> list[Verdict]:
    """Drop rows that are like a kept earlier one, prompt and answer each by `threshold`, with the same numbers."""
    pairs = _alike(rows, threshold)
    dropped: dict[int, Verdict] = {}
    for left, right, value in zip(pairs.left.tolist(), pairs.right.tolist(), pairs.similarity.tolist(), strict=True):
        if left in dropped or right in dropped or not _same_numbers(rows[left], rows[right]):
            continue
        kept, again = rows[left].id, rows[right].id
        dropped[right] = Verdict(again, Action.DROPPED, "near_duplicate", value, threshold, kept)
    return list(dropped.values())


def _alike(rows: Sequence[Row], threshold: float) -> Pairs:
    """Pairs whose prompts, and whose answers, reach the threshold; the similarity is the lesser of the two."""
    answers = runs([_answer_tokens(row.response) for row in rows], WORDS_IN_SHINGLE)
    found = []
    for where, prompts in views([row.prompt for row in rows]):
        # Where both parts reach the threshold, so does their union: one search finds all.
        pairs = candidates(hstack([prompts, answers[where]], format="csr"), threshold)
        similarity: NDArray[np.float64] = np.minimum(jaccard(prompts, pairs), jaccard(answers, where[pairs]))
        alike = Pairs(where[pairs[:, 0]], where[pairs[:, 1]], similarity)
        found.append(alike.where(similarity >= threshold))
    return merged(found)


def _answer_tokens(answer: str) -> tuple[str, ...]:
    found = words(answer)
    return (" ".join(found),) if 0 < len(found) <= LABEL_WORDS else found


def _same_numbers(one: Row, other: Row) -> bool:
    return numbers(one.prompt) == numbers(other.prompt) and numbers(one.response) == numbers(other.response)
