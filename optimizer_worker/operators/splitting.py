"""Split off dev and test rows by near-duplicate cluster, so that no prompt has a near copy in another split."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import chain

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from contracts.rows import Row
from infra.errors import BadInput
from optimizer_worker.similarity.normalization import Words, words
from optimizer_worker.similarity.pairs import similar_pairs
from optimizer_worker.similarity.partial_copies import SHORT_PROMPT_WORDS, edit_similarity, long_copies
from optimizer_worker.similarity.row_texts import compared_answer
from optimizer_worker.similarity.shared_text import prompt_words
from optimizer_worker.similarity.shingles import Indices
from optimizer_worker.spec import REQUEST_FIELDS

Cluster = list[int]
"""Indices of rows whose prompts are near-duplicates of each other, directly or through other rows."""

MIN_SIMILARITY_OF_EDITED = 0.6
"""Similarity of short prompts from which they are compared word by word; one changed word mostly leaves more."""
MAX_TEXTS_OF_RUN = 20
"""A run of words in more prompts is part of a template and does not link them."""


def split_off(rows: Sequence[Row], fractions: Mapping[str, float], threshold: float, seed: int) -> dict[str, list[Row]]:
    """Return the rows of each named split: about its fraction of every slice, in whole clusters.

    Raises BadInput if there are too few clusters for each split and the training rows.
    """
    groups = clusters(rows, threshold)
    if len(groups) <= len(fractions):
        raise BadInput(
            f"{len(rows)} rows in {len(groups)} near-duplicate clusters cannot be split into train and "
            f"{' and '.join(fractions)}; upload more rows, or give a separate dataset for each of these splits",
            field=REQUEST_FIELDS["train"],
        )
    # The split must be reproducible; it is not used for security.
    chosen = _choose(rows, groups, fractions, random.Random(seed))  # noqa: S311
    return {name: [rows[i] for i in sorted(indices)] for name, indices in chosen.items()}


def clusters(rows: Sequence[Row], threshold: float) -> list[Cluster]:
    """Return the connected components of rows whose prompts are similar, or of which one has a copy of the other.

    These are the rules of decontamination, so that it finds almost nothing after a split by cluster.
    """
    keys: dict[Words, int] = {}
    prompts = prompt_words(rows)
    prompt_of = np.array([keys.setdefault(prompt, len(keys)) for prompt in prompts], dtype=np.int64)
    answers: dict[Words, dict[Words, None]] = defaultdict(dict)
    for prompt, row in zip(prompts, rows, strict=True):
        answers[prompt].setdefault(words(compared_answer(row)))
    whole = [(*prompt, *chain.from_iterable(answers[prompt])) for prompt in keys]
    left, right = _links(list(keys), whole, threshold)
    links = coo_array((np.ones(left.size, np.int8), (left, right)), shape=(len(keys), len(keys)))
    _, component = connected_components(links, directed=False)
    groups: dict[int, Cluster] = defaultdict(list)
    for index, number in enumerate(component[prompt_of].tolist()):
        groups[number].append(index)
    return list(groups.values())


def _links(prompts: list[Words], whole: list[Words], threshold: float) -> tuple[Indices, Indices]:
    similar = similar_pairs(prompts, threshold)
    short = [i for i, prompt in enumerate(prompts) if len(prompt) <= SHORT_PROMPT_WORDS]
    edited = similar_pairs([prompts[i] for i in short], MIN_SIMILARITY_OF_EDITED)
    pairs = [
        (short[left], short[right]) for left, right in zip(edited.left.tolist(), edited.right.tolist(), strict=True)
    ]
    found = [(i, j) for i, j in pairs if edit_similarity(prompts[i], prompts[j]) is not None]
    found += [(match.row, match.protected) for match in long_copies(whole, prompts, MAX_TEXTS_OF_RUN)]
    extra = np.array(found, dtype=np.int64).reshape(-1, 2)
    return np.concatenate([similar.left, extra[:, 0]]), np.concatenate([similar.right, extra[:, 1]])


def _choose(
    rows: Sequence[Row], groups: Sequence[Cluster], fractions: Mapping[str, float], order: random.Random
) -> dict[str, Cluster]:
    available_by_slice: dict[str, list[Cluster]] = defaultdict(list)
    for group in groups:
        available_by_slice[rows[group[0]].slice].append(group)
    chosen: dict[str, Cluster] = {name: [] for name in fractions}
    seen = 0
    for slice_name in sorted(available_by_slice):
        available = available_by_slice[slice_name]
        order.shuffle(available)
        seen += sum(map(len, available))
        for name, fraction in fractions.items():
            # The fraction is of all rows so far, so that the next slice makes up for what a small one could not give.
            chosen[name] += _take(available, fraction * seen - len(chosen[name]))
    _fill(chosen, [group for available in available_by_slice.values() for group in available], order)
    return chosen


def _fill(chosen: dict[str, Cluster], rest: list[Cluster], order: random.Random) -> None:
    """Give each empty split the smallest remaining cluster."""
    order.shuffle(rest)
    rest.sort(key=len)
    for name, indices in chosen.items():
        if not indices:
            chosen[name] = rest.pop(0)


def _take(available: list[Cluster], wanted: float) -> Cluster:
    """Remove and return clusters that fit into `wanted` rows, but leave at least one."""
    taken: Cluster = []
    for group in list(available):
        if len(available) > 1 and len(taken) + len(group) <= wanted + 0.5:
            available.remove(group)
            taken += group
    return taken
