"""Drop rows that repeat another row: the same prompt AND the same answer.

The same prompt with different answers is a conflict, not a duplicate, see conflicts.py. On real mixes, most rows that
a whole-text deduplication drops have a different answer from the row it keeps.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import hstack

from contracts.rows import Row
from optimizer_worker.ledger import Action, RuleDecision
from optimizer_worker.similarity.normalization import Words, normal, signs, words
from optimizer_worker.similarity.pairs import Pairs, candidates, jaccard, merged
from optimizer_worker.similarity.row_texts import compared_answer, compared_prompt
from optimizer_worker.similarity.shared_text import prompt_words
from optimizer_worker.similarity.shingles import WORDS_IN_SHINGLE, runs, views

MAX_LABEL_WORDS = 5
"""Answers of at most this many words are similar only if they are equal: "card lost" is not "card stolen"."""


def exact_duplicates(rows: Sequence[Row]) -> list[RuleDecision]:
    """Drop rows whose `normal` prompt and answer are equal to those of an earlier row."""
    first: dict[tuple[str, str], str] = {}
    decisions = []
    for row in rows:
        parent = first.setdefault((normal(compared_prompt(row)), normal(compared_answer(row))), row.id)
        if parent != row.id:
            decisions.append(RuleDecision(row.id, Action.DROPPED, "exact_duplicate", 1.0, 1.0, parent))
    return decisions


def near_duplicates(rows: Sequence[Row], threshold: float) -> list[RuleDecision]:
    """Drop rows that are similar to an earlier kept row and have the same numbers and symbols.

    Prompt and answer must each reach a Jaccard similarity of `threshold`; a threshold of 1 turns the rule off.
    """
    if threshold >= 1:
        return []
    prompts = prompt_words(rows)
    answers = [words(compared_answer(row)) for row in rows]
    pairs = _similar(prompts, answers, threshold)
    differing = [(signs(prompt), signs(answer)) for prompt, answer in zip(prompts, answers, strict=True)]
    dropped: dict[int, RuleDecision] = {}
    for left, right, value in zip(pairs.left.tolist(), pairs.right.tolist(), pairs.similarity.tolist(), strict=True):
        if left in dropped or right in dropped or differing[left] != differing[right]:
            continue
        kept, duplicate = rows[left].id, rows[right].id
        dropped[right] = RuleDecision(duplicate, Action.DROPPED, "near_duplicate", value, threshold, kept)
    return list(dropped.values())


def _similar(prompts: Sequence[Words], answers: Sequence[Words], threshold: float) -> Pairs:
    """Return pairs whose prompts and answers both reach the threshold; the similarity is the lower of the two."""
    answer_runs = runs([_answer_tokens(answer) for answer in answers], WORDS_IN_SHINGLE)
    found = []
    for text_indices, prompt_runs in views(prompts):
        # If both parts reach the threshold, their union does too, so one search finds all pairs.
        pairs = candidates(hstack([prompt_runs, answer_runs[text_indices]], format="csr"), threshold)
        both = jaccard(prompt_runs, pairs), jaccard(answer_runs, text_indices[pairs])
        similarity: NDArray[np.float64] = np.minimum(*both)
        similar = Pairs(text_indices[pairs[:, 0]], text_indices[pairs[:, 1]], similarity)
        found.append(similar.where(similarity >= threshold))
    return merged(found)


def _answer_tokens(answer: Words) -> Words:
    return (" ".join(answer),) if 0 < len(answer) <= MAX_LABEL_WORDS else answer
