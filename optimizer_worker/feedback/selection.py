"""Rows drawn from the pool to answer a report. Only prompts are looked at: a label is unknown until it is bought.

Targeted: each weak slice has a quota, and spends it on the pool prompts nearest (TF-IDF) to its bad cases, less
what is already in training or drawn. Nearest alone piles up around noisy failures, and on banking77 it does no
better than rows drawn at random.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from contracts.report import BadCase, DevReport
from optimizer_worker.feedback.quotas import slice_quotas
from optimizer_worker.programs.text_models import word_vectors
from optimizer_worker.similarity.shingles import Indices

NEAREST = 3
"""Bad cases of a slice whose likeness to a prompt is averaged: one odd failure must not lead."""
NOVELTY, DIVERSITY = 0.5, 0.5
"""How much likeness to the training prompts, and to the prompts drawn before, counts against a prompt
(maximal marginal relevance, Carbonell and Goldstein 1998)."""
SHORTLIST, SHORTEST = 20, 200
"""Prompts that are looked at closely for each row of a slice's quota, and at least."""
CHUNK = 4096

Scores = NDArray[np.float64]


class Prompt(NamedTuple):
    """A pool row as far as it may be known before it is drawn."""

    id: str
    prompt: str


class Draw(NamedTuple):
    """One row to buy, and the dev bad case that asked for it; None where it was drawn at random."""

    id: str
    bad_case: str | None = None
    likeness: float | None = None


class Wish(NamedTuple):
    """What one slice would draw: places in the pool, their worth to the slice, and the bad case nearest to each."""

    places: Indices
    worth: Scores
    nearest: Indices
    likeness: Scores


def draw_random(pool: Sequence[Prompt], budget: int, seed: int) -> list[Draw]:
    """A uniform sample without replacement: the control arm."""
    # A reproducible sample is wanted, no secret.
    sample = random.Random(seed).sample(range(len(pool)), min(budget, len(pool)))  # noqa: S311
    return [Draw(pool[place].id) for place in sample]


def draw_targeted(pool: Sequence[Prompt], report: DevReport, known: Sequence[str], budget: int) -> list[Draw]:
    """At most `budget` prompts near the report's bad cases and unlike the `known` training prompts.

    Fewer where the pool has no more prompts that share a word with a bad case.
    """
    quotas = slice_quotas(report, budget)
    if not pool or not quotas:
        return []
    cases = report.bad_cases
    prompts, failed, training = word_vectors([p.prompt for p in pool], [c.prompt for c in cases], known)
    wishes = {
        name: _wish(prompts, failed, _places(cases, name), training, max(SHORTEST, SHORTLIST * quota))
        for name, quota in quotas.items()
    }
    return [
        Draw(pool[place].id, cases[wish.nearest[i]].row_id, round(float(wish.likeness[i]), 4))
        for place, wish, i in _spend(prompts, wishes, quotas, budget)
    ]


def _places(cases: Sequence[BadCase], name: str) -> Indices:
    return np.array([i for i, case in enumerate(cases) if case.slice == name], dtype=np.int64)


def _wish(prompts: csr_array, failed: csr_array, cases: Indices, training: csr_array, length: int) -> Wish:
    """The slice's shortlist: the prompts most like its bad cases, the like of training prompts taken off."""
    likeness = np.concatenate([_mean_of_nearest(part) for part in _products(prompts, failed[cases])])
    order = np.argsort(-likeness, kind="stable")[:length]
    places = order[likeness[order] > 0]
    if not places.size:
        return Wish(places, likeness[places], places, likeness[places])
    closest = np.concatenate([part.argmax(axis=1) for part in _products(prompts[places], failed[cases])])
    known = np.concatenate([part.max(axis=1, initial=0) for part in _products(prompts[places], training)])
    return Wish(places, likeness[places] - NOVELTY * known, cases[closest], likeness[places])


def _products(left: csr_array, right: csr_array) -> Iterator[Scores]:
    """Cosines of the vectors on the left with all on the right, some rows at a time."""
    for start in range(0, left.shape[0], CHUNK):
        yield (left[start : start + CHUNK] @ right.T).toarray()


def _mean_of_nearest(cosines: Scores) -> Scores:
    count = min(NEAREST, cosines.shape[1])
    return np.asarray(np.partition(cosines, -count, axis=1)[:, -count:].mean(axis=1))


def _spend(
    prompts: csr_array, wishes: Mapping[str, Wish], quotas: Mapping[str, int], budget: int
) -> Iterator[tuple[int, Wish, int]]:
    """Draw the best prompt of the slice with the most left to spend, again and again; never the like twice.

    What a slice finds nothing for goes to the others.
    """
    wanted = np.unique(np.concatenate([wish.places for wish in wishes.values()]))
    vectors, stale = prompts[wanted], np.zeros(wanted.size)
    open_to = {name: np.searchsorted(wanted, wish.places) for name, wish in wishes.items() if wish.places.size}
    spent: Counter[str] = Counter()
    while spent.total() < budget and open_to:
        name = max(open_to, key=lambda n: quotas[n] - spent[n])
        wish = wishes[name]
        worth = wish.worth - DIVERSITY * stale[open_to[name]]
        best = int(worth.argmax())
        if np.isneginf(worth[best]):
            del open_to[name]
            continue
        spent[name] += 1
        yield int(wish.places[best]), wish, best
        drawn = open_to[name][best]
        stale = np.maximum(stale, (vectors @ vectors[[drawn]].T).toarray().ravel())
        stale[drawn] = np.inf
