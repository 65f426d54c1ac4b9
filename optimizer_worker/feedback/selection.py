"""Choose rows of the pool by their prompts only, because a label is unknown until its row is drawn.

Targeted: each weak slice has a quota, filled with the pool prompts most similar (TF-IDF) to its bad cases, minus a
penalty for similarity to training prompts and to drawn prompts. Without the penalties, draws concentrate around
noisy failures; on banking77 they were no better than random rows.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from contracts.report import BadCase, DevReport
from optimizer_worker.feedback.quotas import slice_quotas
from optimizer_worker.similarity.normalization import Words, words
from optimizer_worker.similarity.shared_text import distinguishing
from optimizer_worker.similarity.shingles import Indices

NEAREST_CASES = 3
"""Number of nearest bad cases of a slice to average over, so that one unusual failure does not decide."""
NOVELTY_PENALTY, DIVERSITY_PENALTY = 0.5, 0.5
"""Penalties for similarity to the training prompts and to the prompts already drawn
(maximal marginal relevance, Carbonell and Goldstein 1998)."""
SHORTLIST_PER_ROW, MIN_SHORTLIST = 20, 200
"""Size of a slice's shortlist: prompts for each row of its quota, and the minimum."""
ROWS_AT_ONCE = 4096
"""Rows of the left matrix multiplied at once."""

Scores = NDArray[np.float64]

Vectorize = Callable[..., list[csr_array]]
"""Takes groups of texts as words, and returns vectors of unit length for each group, in one space."""


class Prompt(NamedTuple):
    """The part of a pool row that is known before the row is drawn."""

    id: str
    words: Words


class Draw(NamedTuple):
    """One row to draw, and the dev bad case it is most similar to; None if it was drawn at random."""

    id: str
    bad_case: str | None = None
    similarity: float | None = None


class SliceCandidates(NamedTuple):
    """One slice's shortlist: indices in the pool, the value of each to the slice, and its nearest bad case."""

    indices: Indices
    value: Scores
    nearest: Indices
    similarity: Scores


def draw_random(pool: Sequence[Prompt], budget: int, seed: int) -> list[Draw]:
    """Draw a uniform sample without replacement, for the control arm."""
    # The sample must be reproducible; it is not used for security.
    sample = random.Random(seed).sample(range(len(pool)), min(budget, len(pool)))  # noqa: S311
    return [Draw(pool[index].id) for index in sample]


def draw_targeted(
    pool: Sequence[Prompt], report: DevReport, known: Sequence[Words], budget: int, vectorize: Vectorize
) -> list[Draw]:
    """Draw at most `budget` prompts similar to the report's bad cases and different from the `known` training prompts.

    Fewer are drawn if no more prompts of the pool share a word with a bad case.
    """
    quotas = slice_quotas(report, budget)
    if not pool or not quotas:
        return []
    cases = report.bad_cases
    texts = distinguishing([*(p.words for p in pool), *(words(c.prompt) for c in cases), *known])
    ends = (len(pool), len(pool) + len(cases))
    prompts, case_vectors, training = vectorize(texts[: ends[0]], texts[ends[0] : ends[1]], texts[ends[1] :])
    shortlists = {
        name: _shortlist(
            prompts, case_vectors, _case_indices(cases, name), training, max(MIN_SHORTLIST, SHORTLIST_PER_ROW * quota)
        )
        for name, quota in quotas.items()
    }
    return [
        Draw(pool[index].id, cases[shortlist.nearest[i]].row_id, round(float(shortlist.similarity[i]), 4))
        for index, shortlist, i in _fill_quotas(prompts, shortlists, quotas, budget)
    ]


def _case_indices(cases: Sequence[BadCase], name: str) -> Indices:
    return np.array([i for i, case in enumerate(cases) if case.slice == name], dtype=np.int64)


def _shortlist(
    prompts: csr_array, case_vectors: csr_array, cases: Indices, training: csr_array, length: int
) -> SliceCandidates:
    """Return the slice's shortlist: the prompts most similar to its bad cases, with the novelty penalty applied."""
    similarity = np.concatenate([_mean_of_nearest(part) for part in _products(prompts, case_vectors[cases])])
    order = np.argsort(-similarity, kind="stable")[:length]
    indices = order[similarity[order] > 0]
    if not indices.size:
        return SliceCandidates(indices, similarity[indices], indices, similarity[indices])
    closest = np.concatenate([part.argmax(axis=1) for part in _products(prompts[indices], case_vectors[cases])])
    known = np.concatenate([part.max(axis=1, initial=0) for part in _products(prompts[indices], training)])
    return SliceCandidates(indices, similarity[indices] - NOVELTY_PENALTY * known, cases[closest], similarity[indices])


def _products(left: csr_array, right: csr_array) -> Iterator[Scores]:
    """Yield the cosines of the left vectors with all right vectors, in chunks of rows of shape (chunk, right)."""
    for start in range(0, left.shape[0], ROWS_AT_ONCE):
        yield (left[start : start + ROWS_AT_ONCE] @ right.T).toarray()


def _mean_of_nearest(cosines: Scores) -> Scores:
    count = min(NEAREST_CASES, cosines.shape[1])
    return np.asarray(np.partition(cosines, -count, axis=1)[:, -count:].mean(axis=1))


def _fill_quotas(
    prompts: csr_array, shortlists: Mapping[str, SliceCandidates], quotas: Mapping[str, int], budget: int
) -> Iterator[tuple[int, SliceCandidates, int]]:
    """Draw the best prompt of the slice with the most unfilled quota, until the budget is spent.

    A slice without candidates leaves the rest of its quota to the others.
    """
    shortlisted = np.unique(np.concatenate([shortlist.indices for shortlist in shortlists.values()]))
    vectors, drawn_similarity = prompts[shortlisted], np.zeros(shortlisted.size)
    positions = {
        name: np.searchsorted(shortlisted, shortlist.indices)
        for name, shortlist in shortlists.items()
        if shortlist.indices.size
    }
    spent: Counter[str] = Counter()
    while spent.total() < budget and positions:
        name = max(positions, key=lambda n: quotas[n] - spent[n])
        shortlist = shortlists[name]
        value = shortlist.value - DIVERSITY_PENALTY * drawn_similarity[positions[name]]
        best = int(value.argmax())
        if np.isneginf(value[best]):
            del positions[name]
            continue
        spent[name] += 1
        yield int(shortlist.indices[best]), shortlist, best
        drawn = positions[name][best]
        drawn_similarity = np.maximum(drawn_similarity, (vectors @ vectors[[drawn]].T).toarray().ravel())
        drawn_similarity[drawn] = np.inf
