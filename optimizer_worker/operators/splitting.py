"""Split off dev and test rows by near-duplicate cluster, so that no prompt has a near copy in another split."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from contracts.rows import Row
from infra.errors import BadInput
from optimizer_worker.similarity.normalization import normal
from optimizer_worker.similarity.pairs import similar_pairs
from optimizer_worker.spec import REQUEST_FIELDS

Cluster = list[int]
"""Indices of rows whose prompts are near-duplicates of each other, directly or through other rows."""


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
    """Return the connected components of rows whose prompts have a similarity of at least `threshold`."""
    keys: dict[str, int] = {}
    prompt_of = np.array([keys.setdefault(normal(row.prompt), len(keys)) for row in rows], dtype=np.int64)
    pairs = similar_pairs(list(keys), threshold)
    links = coo_array((np.ones(len(pairs), np.int8), (pairs.left, pairs.right)), shape=(len(keys), len(keys)))
    _, component = connected_components(links, directed=False)
    groups: dict[int, Cluster] = defaultdict(list)
    for index, number in enumerate(component[prompt_of].tolist()):
        groups[number].append(index)
    return list(groups.values())


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
