"""Drop rows that contain a dev or test prompt: the same prompt, a near copy, or a long part of it.

A short prompt must match in more than its words, because questions of one domain share most words. A part of a long
prompt is enough, so for those the row's whole text is searched, including the answer.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from rapidfuzz import fuzz
from rapidfuzz.distance import Levenshtein
from scipy.sparse import csr_array

from contracts.rows import Row
from optimizer_worker.ledger import Action, RuleDecision
from optimizer_worker.similarity.normalization import normal, words
from optimizer_worker.similarity.shingles import distinctive, runs, sizes, views

ROWS_AT_ONCE = 4096
"""Rows compared with all protected rows at once."""
SHORT_PROMPT_WORDS = 13
"""Prompts of fewer words are short: they have no 13-gram, the measure used for long prompts since GPT-3."""
MIN_SHARED_PAIRS, MIN_SHARED_WORDS, MIN_EDIT_SIMILARITY, MIN_WORDS_FOR_ONE_CHANGE = 0.5, 0.8, 0.9, 8
"""A row matches a short prompt if it has half its word pairs and 0.8 of its words, and either an edit similarity of
0.9 or, for prompts of 8 words and more, at most one changed word. Lower values flag too many rows: "how do I get a
physical card" and "how do I get a virtual card" are different questions."""
LONG_NGRAM, SHORT_NGRAM, MIN_COVERED = 13, 8, 0.5
"""A row matches a long prompt if it has one of its 13-grams that is not part of a template, or half its 8-grams."""


class Match(NamedTuple):
    """A row that matches a protected row; `value` is the measured value, which reached `threshold`."""

    row: int
    protected: int
    rule: str
    value: float
    threshold: float


def contaminated(rows: Sequence[Row], protected: Mapping[str, Sequence[Row]], threshold: float) -> list[RuleDecision]:
    """Drop the rows that match a row of a protected split; a decision names a dev row, but never a test row."""
    owners = [(name, row) for name, split in protected.items() for row in split]
    if not rows or not owners:
        return []
    first: dict[int, Match] = {}
    for match in _matches(rows, [row for _, row in owners], threshold):
        first.setdefault(match.row, match)
    return [_decision(rows[index], match, *owners[match.protected]) for index, match in sorted(first.items())]


def _matches(rows: Sequence[Row], protected: Sequence[Row], threshold: float) -> Iterator[Match]:
    prompts = [row.prompt for row in rows]
    protected_prompts = [row.prompt for row in protected]
    yield from _same(prompts, protected_prompts)
    yield from _near_copies(prompts, protected_prompts, threshold)
    yield from _short(prompts, protected_prompts)
    yield from _long([f"{row.prompt}\n{row.response}" for row in rows], protected_prompts)


def _same(prompts: Sequence[str], protected_prompts: Sequence[str]) -> Iterator[Match]:
    index_of = {normal(protected): i for i, protected in enumerate(protected_prompts)}
    for row, prompt in enumerate(prompts):
        if (match := index_of.get(normal(prompt))) is not None:
            yield Match(row, match, "same prompt", 1.0, 1.0)


def _near_copies(prompts: Sequence[str], protected_prompts: Sequence[str], threshold: float) -> Iterator[Match]:
    """Find near copies by the exact Jaccard similarity of word or character shingles, without LSH."""
    for text_indices, matrix in views([*prompts, *protected_prompts]):
        boundary = int(np.searchsorted(text_indices, len(prompts)))
        row_shingles, protected_shingles = matrix[:boundary], matrix[boundary:]
        row_sizes, protected_sizes = sizes(row_shingles), sizes(protected_shingles)
        for row, protected, shared in _shared(row_shingles, protected_shingles):
            similarity = shared / (row_sizes[row] + protected_sizes[protected] - shared)
            for i in np.flatnonzero(similarity >= threshold):
                index = int(text_indices[boundary + protected[i]]) - len(prompts)
                yield Match(int(text_indices[row[i]]), index, "near copy", float(similarity[i]), threshold)


def _short(prompts: Sequence[str], protected_prompts: Sequence[str]) -> Iterator[Match]:
    indices = [i for i, protected in enumerate(protected_prompts) if 2 < len(words(protected)) < SHORT_PROMPT_WORDS]
    if not indices:
        return
    matrix = runs([words(text) for text in (*prompts, *(protected_prompts[i] for i in indices))], 2)
    row_shingles, protected_shingles = matrix[: len(prompts)], matrix[len(prompts) :]
    protected_sizes = sizes(protected_shingles)
    for row, protected, shared in _shared(row_shingles, protected_shingles):
        for i in np.flatnonzero(shared >= MIN_SHARED_PAIRS * protected_sizes[protected]):
            index = indices[protected[i]]
            if (similarity := _near_copy_similarity(prompts[row[i]], protected_prompts[index])) is not None:
                yield Match(int(row[i]), index, "short near copy", similarity, MIN_EDIT_SIMILARITY)


def _near_copy_similarity(text: str, protected: str) -> float | None:
    """Return the edit similarity of a near copy of a short prompt, or None if the text is not a near copy."""
    copy, original = words(text), words(protected)
    if _symbols(copy) != _symbols(original) or len(set(original) & set(copy)) < MIN_SHARED_WORDS * len(set(original)):
        return None
    similarity = fuzz.ratio(" ".join(copy), " ".join(original)) / 100
    one_word = len(original) >= MIN_WORDS_FOR_ONE_CHANGE and Levenshtein.distance(copy, original, score_cutoff=1) <= 1
    return similarity if similarity >= MIN_EDIT_SIMILARITY or one_word else None


def _symbols(tokens: Sequence[str]) -> list[str]:
    """Return numbers and operators; texts that differ in one are different questions."""
    return [token for token in tokens if not token.isalpha()]


def _long(texts: Sequence[str], protected_prompts: Sequence[str]) -> Iterator[Match]:
    indices = [i for i, protected in enumerate(protected_prompts) if len(words(protected)) >= SHORT_PROMPT_WORDS]
    if not indices:
        return
    tokens = [words(text) for text in (*texts, *(protected_prompts[i] for i in indices))]
    for length, share in ((LONG_NGRAM, 0.0), (SHORT_NGRAM, MIN_COVERED)):
        matrix = distinctive(runs(tokens, length))
        row_shingles, protected_shingles = matrix[: len(texts)], matrix[len(texts) :]
        protected_sizes = sizes(protected_shingles)
        for row, protected, shared in _shared(row_shingles, protected_shingles):
            covered = shared / protected_sizes[protected]
            for i in np.flatnonzero(covered >= share):
                yield Match(int(row[i]), indices[protected[i]], f"{length}-grams", float(covered[i]), share)


def _shared(
    row_shingles: csr_array, protected_shingles: csr_array
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]]:
    """Yield, for each chunk, rows and protected rows that share shingles, and the number of shared shingles."""
    transposed = protected_shingles.T.tocsr()
    for start in range(0, row_shingles.shape[0], ROWS_AT_ONCE):
        product = (row_shingles[start : start + ROWS_AT_ONCE] @ transposed).tocoo()
        yield product.row + start, product.col, product.data


def _decision(row: Row, match: Match, split: str, protected: Row) -> RuleDecision:
    return RuleDecision(
        row.id,
        Action.DROPPED,
        "contaminated",
        round(match.value, 4),
        match.threshold,
        parent=protected.id if split == "dev" else None,
        reason=f"{match.rule} of a row of {split}",
    )
