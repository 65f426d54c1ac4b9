"""Find similar texts: MinHash with banded LSH finds candidates, the exact Jaccard similarity decides.

Broder 1997, "On the resemblance and containment of documents"; Leskovec et al., "Mining of Massive Datasets", 3.4.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from optimizer_worker.similarity.normalization import Words
from optimizer_worker.similarity.shingles import Indices, sizes, views

PERMUTATIONS = 128
MAX_MISSED_SHARE = 1e-3
"""Maximum share of the pairs exactly at the threshold that banding may miss."""
BUCKET_WINDOW = 16
"""In a large bucket, a text is paired with the first text and fewer than this many before it, to avoid n² pairs."""
PAIRS_AT_ONCE = 100_000
"""Number of pairs whose similarity is computed at once."""


@dataclass(frozen=True, slots=True)
class Pairs:
    """Pairs of text indices, left before right, sorted by right, then left; each array has shape (pairs,)."""

    left: Indices
    right: Indices
    similarity: NDArray[np.float64]

    def where(self, keep: NDArray[np.bool_]) -> Pairs:
        """Return only the pairs for which `keep` is true."""
        return Pairs(self.left[keep], self.right[keep], self.similarity[keep])

    def __len__(self) -> int:
        return int(self.left.size)


def similar_pairs(texts: Sequence[Words], threshold: float) -> Pairs:
    """Return the pairs of texts whose word or character shingles have a Jaccard similarity ≥ `threshold`."""
    found = [_in_all_texts(verified(matrix, threshold), text_indices) for text_indices, matrix in views(texts)]
    return merged(found)


def verified(matrix: csr_array, threshold: float) -> Pairs:
    """Return the pairs of rows of a 0/1 matrix with a similarity ≥ `threshold`."""
    pairs = candidates(matrix, threshold)
    similarity = jaccard(matrix, pairs)
    keep = similarity >= threshold
    return Pairs(pairs[keep, 0], pairs[keep, 1], similarity[keep])


def merged(found: Sequence[Pairs]) -> Pairs:
    """Return every pair once, with its highest similarity."""
    left, right = (np.concatenate([getattr(p, side) for p in found]) for side in ("left", "right"))
    similarity = np.concatenate([p.similarity for p in found])
    order = np.lexsort((-similarity, left, right))
    left, right, similarity = left[order], right[order], similarity[order]
    first = np.ones(left.size, dtype=bool)
    first[1:] = (left[1:] != left[:-1]) | (right[1:] != right[:-1])
    return Pairs(left[first], right[first], similarity[first])


def jaccard(matrix: csr_array, pairs: Indices) -> NDArray[np.float64]:
    """Return the similarity of each pair of rows, of shape (pairs,); two empty rows have 1."""
    counts = sizes(matrix)
    similarity = np.empty(len(pairs))
    for start in range(0, len(pairs), PAIRS_AT_ONCE):
        left, right = pairs[start : start + PAIRS_AT_ONCE].T
        both = np.asarray(matrix[left].multiply(matrix[right]).sum(axis=1)).ravel()
        either = counts[left] + counts[right] - both
        similarity[start : start + PAIRS_AT_ONCE] = np.where(either > 0, both / np.maximum(either, 1), 1.0)
    return similarity


def candidates(matrix: csr_array, threshold: float) -> Indices:
    """Return pairs of rows, left before right, that share a band of their MinHash signatures; shape (pairs, 2)."""
    filled = np.flatnonzero(sizes(matrix))
    rows_in_band = band_rows(threshold)
    random = np.random.default_rng(0)
    codes = [_codes(_band(matrix[filled], rows_in_band, random)) for _ in range(PERMUTATIONS // rows_in_band)]
    distinct = np.unique(np.concatenate(codes)) if codes else np.empty(0, np.int64)
    pairs: Indices = filled[np.stack(np.divmod(distinct, max(1, filled.size)), axis=1)]
    return pairs


def band_rows(threshold: float) -> int:
    """Return the longest band, in rows, that misses at most MAX_MISSED_SHARE of the pairs at the threshold."""
    longest = range(16, 1, -1)
    return next((r for r in longest if (1 - threshold**r) ** (PERMUTATIONS // r) <= MAX_MISSED_SHARE), 1)


def _band(matrix: csr_array, rows: int, random: np.random.Generator) -> NDArray[np.uint64]:
    """Return one key for each text; keys are equal if the minima under `rows` random orders of the shingles are."""
    key = np.zeros(matrix.shape[0], dtype=np.uint64)
    if not key.size:
        return key
    for _ in range(rows):
        order = random.integers(0, 1 << 32, size=matrix.shape[1], dtype=np.uint64)
        key = key * np.uint64(0x9E3779B97F4A7C15) + np.minimum.reduceat(order[matrix.indices], matrix.indptr[:-1])
    return key


def _codes(keys: NDArray[np.uint64]) -> Indices:
    """Return pairs of texts with equal keys, each encoded as left * number of texts + right."""
    order = np.argsort(keys, kind="stable")
    ranked = keys[order]
    begins = np.flatnonzero(np.concatenate([[True], ranked[1:] != ranked[:-1]])) if keys.size else order
    first = np.repeat(begins, np.diff(np.concatenate([begins, [keys.size]])))
    position = np.arange(keys.size)
    codes = [order[first[position > first]] * keys.size + order[position > first]]
    for back in range(1, BUCKET_WINDOW):
        in_bucket = position - back > first
        codes.append(order[position[in_bucket] - back] * keys.size + order[position[in_bucket]])
    return np.concatenate(codes)


def _in_all_texts(pairs: Pairs, text_indices: Indices) -> Pairs:
    """Convert indices within a part of the texts to indices within all texts."""
    return Pairs(text_indices[pairs.left], text_indices[pairs.right], pairs.similarity)
