"""Find copies that the similarity of whole texts misses: short prompts with one edit, and parts of long prompts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from rapidfuzz import fuzz
from rapidfuzz.distance import Levenshtein
from scipy.sparse import csr_array

from optimizer_worker.similarity.normalization import Words, signs
from optimizer_worker.similarity.shingles import Indices, in_few_texts, runs, sizes

ROWS_AT_ONCE = 4096
"""Rows compared with all protected rows at once."""
SHORT_PROMPT_WORDS = 13
"""Prompts of fewer words are short: they have no 13-gram, the measure used for long prompts since GPT-3."""
MIN_SHARED_PAIRS, MIN_SHARED_WORDS, MIN_EDIT_SIMILARITY, MIN_WORDS_FOR_ONE_CHANGE = 0.5, 0.8, 0.9, 8
"""A row matches a short prompt if it has half its word pairs and 0.8 of its words, and either an edit similarity of
0.9 or, for prompts of 8 words and more, at most one changed word. Lower values flag too many rows: "how do I get a
physical card" and "how do I get a virtual card" are different questions."""
LONG_RUNS = ((13, 0.25), (8, 0.5))
"""A row matches a long prompt if it has a quarter of its 13-grams, or half its 8-grams."""
MAX_PROTECTED_ROWS = 5
"""A run in more protected rows is part of a template and is not counted."""


class Match(NamedTuple):
    """A row that matches a protected row; `value` is the measured value, which reached `threshold`."""

    row: int
    protected: int
    rule: str
    value: float
    threshold: float


def short_copies(prompts: Sequence[Words], protected: Sequence[Words]) -> Iterator[Match]:
    """Yield the prompts that are equal to a short protected prompt except for a small edit."""
    indices = [i for i, prompt in enumerate(protected) if 2 < len(prompt) < SHORT_PROMPT_WORDS]
    if not indices:
        return
    matrix = runs([*prompts, *(protected[i] for i in indices)], 2)
    row_shingles, protected_shingles = matrix[: len(prompts)], matrix[len(prompts) :]
    protected_sizes = sizes(protected_shingles)
    for row, other, shared in shared_shingles(row_shingles, protected_shingles):
        for i in np.flatnonzero(shared >= MIN_SHARED_PAIRS * protected_sizes[other]):
            index = indices[other[i]]
            if (similarity := edit_similarity(prompts[row[i]], protected[index])) is not None:
                yield Match(int(row[i]), index, "short near copy", similarity, MIN_EDIT_SIMILARITY)


def edit_similarity(copy: Words, original: Words) -> float | None:
    """Return the edit similarity of a near copy of a short prompt, or None if the text is not a near copy."""
    if signs(copy) != signs(original) or len(set(original) & set(copy)) < MIN_SHARED_WORDS * len(set(original)):
        return None
    similarity = fuzz.ratio(" ".join(copy), " ".join(original)) / 100
    one_word = len(original) >= MIN_WORDS_FOR_ONE_CHANGE and Levenshtein.distance(copy, original, score_cutoff=1) <= 1
    return similarity if similarity >= MIN_EDIT_SIMILARITY or one_word else None


def long_copies(texts: Sequence[Words], protected: Sequence[Words], most: int = MAX_PROTECTED_ROWS) -> Iterator[Match]:
    """Yield the texts that contain a part of a long protected prompt; runs in more than `most` prompts do not count."""
    indices = [i for i, prompt in enumerate(protected) if len(prompt) >= SHORT_PROMPT_WORDS]
    if not indices:
        return
    tokens = [*(protected[i] for i in indices), *texts]
    for length, share in LONG_RUNS:
        matrix = in_few_texts(runs(tokens, length), len(indices), most)
        protected_shingles, row_shingles = matrix[: len(indices)], matrix[len(indices) :]
        protected_sizes = sizes(protected_shingles)
        for row, other, shared in shared_shingles(row_shingles, protected_shingles):
            covered = shared / protected_sizes[other]
            for i in np.flatnonzero(covered >= share):
                yield Match(int(row[i]), indices[other[i]], f"{length}-grams", float(covered[i]), share)


def shared_shingles(rows: csr_array, protected: csr_array) -> Iterator[tuple[Indices, Indices, Indices]]:
    """Yield, for each chunk, rows and protected rows that share shingles, and the number of shared shingles."""
    transposed = protected.T.tocsr()
    for start in range(0, rows.shape[0], ROWS_AT_ONCE):
        product = (rows[start : start + ROWS_AT_ONCE] @ transposed).tocoo()
        yield product.row + start, product.col, product.data
