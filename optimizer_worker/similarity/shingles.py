"""Represent texts as sets of shingles: a sparse 0/1 matrix (texts, distinct runs of tokens)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import chain, count

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from optimizer_worker.similarity.normalization import Words

WORDS_IN_SHINGLE, CHARACTERS_IN_SHINGLE = 3, 4
SHORT_TEXT_WORDS = 24
"""Texts of fewer words are compared by characters too, because one changed word changes three word shingles."""
MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)
"""An odd number near 2^64 over the golden ratio, which spreads token numbers over the 64 bits of a run's key."""

Indices = NDArray[np.int64]


def views(texts: Sequence[Words]) -> Iterator[tuple[Indices, csr_array]]:
    """Yield text indices with their shingles, for all texts by words, then for the short texts by characters."""
    yield np.arange(len(texts)), runs(texts, WORDS_IN_SHINGLE)
    short = np.array([i for i, text in enumerate(texts) if len(text) < SHORT_TEXT_WORDS], dtype=np.int64)
    if short.size:
        yield short, runs([" ".join(texts[i]) for i in short], CHARACTERS_IN_SHINGLE)


def runs(tokens: Sequence[Sequence[str]], length: int) -> csr_array:
    """Return the distinct runs of `length` tokens of each text; a shorter text is one run, an empty text has none."""
    padded = [[*text, *[""] * (length - len(text))] if text else [] for text in tokens]
    counts = np.array([max(0, len(text) - length + 1) for text in padded], dtype=np.int64)
    keys = run_keys(token_numbers(padded), length)[run_starts(padded, counts)]
    distinct, columns = np.unique(keys, return_inverse=True)
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    matrix = csr_array((np.ones(keys.size, np.int32), columns, offsets), shape=(len(tokens), max(1, distinct.size)))
    matrix.sum_duplicates()
    matrix.data[:] = 1
    return matrix


def in_few_texts(matrix: csr_array, first: int, most: int) -> csr_array:
    """Remove the shingles that are in more than `most` of the `first` texts; changes `matrix` in place."""
    frequency = np.bincount(matrix.indices[: matrix.indptr[first]], minlength=matrix.shape[1])
    matrix.data[:] = frequency[matrix.indices] <= most
    matrix.eliminate_zeros()
    return matrix


def sizes(matrix: csr_array) -> Indices:
    """Return the number of shingles of each text."""
    counts: Indices = np.diff(matrix.indptr).astype(np.int64)
    return counts


def token_numbers(padded: Sequence[Sequence[str]]) -> NDArray[np.uint64]:
    """Return the tokens of all texts in order, each as the number of its distinct string."""
    numbers: defaultdict[str, int] = defaultdict(count(1).__next__)
    numbered = map(numbers.__getitem__, chain.from_iterable(padded))
    return np.fromiter(numbered, dtype=np.uint64, count=sum(map(len, padded)))


def run_keys(numbered: NDArray[np.uint64], length: int) -> NDArray[np.uint64]:
    """Return a 64-bit key of the run that begins at each token."""
    keys = np.zeros(max(0, numbered.size - length + 1), dtype=np.uint64)
    for offset in range(length):
        keys = (keys ^ (keys >> np.uint64(29))) * MULTIPLIER + numbered[offset : offset + keys.size]
    return keys


def run_starts(padded: Sequence[Sequence[str]], counts: Indices) -> Indices:
    """Return the starts of the runs that do not cross the end of their text."""
    lengths = np.array([len(text) for text in padded], dtype=np.int64)
    begins = np.cumsum(lengths) - lengths
    within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    starts: Indices = np.repeat(begins, counts) + within
    return starts
