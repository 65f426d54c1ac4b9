"""Texts as sets of shingles: a sparse 0/1 matrix, one row a text, one column a distinct run of tokens."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import chain, count

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from optimizer_worker.similarity.normalization import words

WORDS_IN_SHINGLE, CHARACTERS_IN_SHINGLE = 3, 4
SHORT = 24
"""Words below which a text is compared by characters too: one changed word touches three shingles of words."""
COMMON, COMMON_SHARE = 20, 0.2
"""A shingle that stands in more texts, and in more than this share of them, is a template's and says nothing."""
MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)
"""Odd, and near 2^64 over the golden ratio: spreads token numbers over the 64 bits of a run's key."""

Indices = NDArray[np.int64]


def views(texts: Sequence[str]) -> Iterator[tuple[Indices, csr_array]]:
    """Two ways to see the texts: all by words, the short ones by characters; which texts, and their shingles."""
    tokens = [words(text) for text in texts]
    yield np.arange(len(texts)), distinctive(runs(tokens, WORDS_IN_SHINGLE))
    short = np.array([i for i, found in enumerate(tokens) if len(found) < SHORT], dtype=np.int64)
    if short.size:
        yield short, distinctive(runs([" ".join(tokens[i]) for i in short], CHARACTERS_IN_SHINGLE))


def runs(tokens: Sequence[Sequence[str]], length: int) -> csr_array:
    """The distinct runs of `length` tokens of each text. A shorter text is one run; an empty one has none."""
    padded = [[*text, *[""] * (length - len(text))] if text else [] for text in tokens]
    counts = np.array([max(0, len(text) - length + 1) for text in padded], dtype=np.int64)
    keys = _keys(_numbered(padded), length)[_starts(padded, counts)]
    distinct, columns = np.unique(keys, return_inverse=True)
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    matrix = csr_array((np.ones(keys.size, np.int32), columns, offsets), shape=(len(tokens), max(1, distinct.size)))
    matrix.sum_duplicates()
    matrix.data[:] = 1
    return matrix


def distinctive(matrix: csr_array) -> csr_array:
    """Without the shingles of templates, unless a text has no others."""
    frequency = np.bincount(matrix.indices, minlength=matrix.shape[1])
    rare = frequency <= max(COMMON, COMMON_SHARE * matrix.shape[0])
    if rare.all():
        return matrix
    row_of = np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))
    has_rare = np.bincount(row_of[rare[matrix.indices]], minlength=matrix.shape[0]) > 0
    matrix.data[:] = rare[matrix.indices] | ~has_rare[row_of]
    matrix.eliminate_zeros()
    return matrix


def sizes(matrix: csr_array) -> Indices:
    """The number of shingles of each text."""
    counts: Indices = np.diff(matrix.indptr).astype(np.int64)
    return counts


def _numbered(padded: Sequence[Sequence[str]]) -> NDArray[np.uint64]:
    """Every token of every text, one after another, as the number of its distinct string."""
    numbers: defaultdict[str, int] = defaultdict(count(1).__next__)
    found = map(numbers.__getitem__, chain.from_iterable(padded))
    return np.fromiter(found, dtype=np.uint64, count=sum(map(len, padded)))


def _keys(numbered: NDArray[np.uint64], length: int) -> NDArray[np.uint64]:
    """A 64-bit key of the run that begins at each token."""
    keys = np.zeros(max(0, numbered.size - length + 1), dtype=np.uint64)
    for offset in range(length):
        keys = (keys ^ (keys >> np.uint64(29))) * MULTIPLIER + numbered[offset : offset + keys.size]
    return keys


def _starts(padded: Sequence[Sequence[str]], counts: Indices) -> Indices:
    """Where the runs begin that do not cross the end of their text."""
    lengths = np.array([len(text) for text in padded], dtype=np.int64)
    begins = np.cumsum(lengths) - lengths
    within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    starts: Indices = np.repeat(begins, counts) + within
    return starts
