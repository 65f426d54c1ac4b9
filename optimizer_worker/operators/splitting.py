"""Dev and test rows split off by near-duplicate cluster, so that no prompt has a near copy on the other side."""

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
"""Places of rows whose prompts are near-duplicates of one another, directly or through others."""


def split_off(rows: Sequence[Row], fractions: Mapping[str, float], threshold: float, seed: int) -> dict[str, list[Row]]:
    """The rows of each named split: about its fraction of every slice, as far as whole clusters allow.

    Raises BadInput where there are too few clusters to give each split a row and leave one to train on.
    """
    groups = clusters(rows, threshold)
    if len(groups) <= len(fractions):
        raise BadInput(
            f"{len(rows)} rows in {len(groups)} near-duplicate clusters cannot be split into train and "
            f"{' and '.join(fractions)}; give more rows, or datasets of their own for these",
            field=REQUEST_FIELDS["train"],
        )
    # A reproducible split is wanted, no secret.
    chosen = _choose(rows, groups, fractions, random.Random(seed))  # noqa: S311
    return {name: [rows[i] for i in sorted(places)] for name, places in chosen.items()}


def clusters(rows: Sequence[Row], threshold: float) -> list[Cluster]:
    """All rows in clusters: the connected components of prompts alike by `threshold`, whatever their answers."""
    keys: dict[str, int] = {}
    prompt_of = np.array([keys.setdefault(normal(row.prompt), len(keys)) for row in rows], dtype=np.int64)
    pairs = similar_pairs(list(keys), threshold)
    links = coo_array((np.ones(len(pairs), np.int8), (pairs.left, pairs.right)), shape=(len(keys), len(keys)))
    _, component = connected_components(links, directed=False)
    groups: dict[int, Cluster] = defaultdict(list)
    for place, number in enumerate(component[prompt_of].tolist()):
        groups[number].append(place)
    return list(groups.values())


def _choose(
    rows: Sequence[Row], groups: Sequence[Cluster], fractions: Mapping[str, float], order: random.Random
) -> dict[str, Cluster]:
    piles: dict[str, list[Cluster]] = defaultdict(list)
    for group in groups:
        piles[rows[group[0]].slice].append(group)
    chosen: dict[str, Cluster] = {name: [] for name in fractions}
    seen = 0
    for slice_name in sorted(piles):
        pile = piles[slice_name]
        order.shuffle(pile)
        seen += sum(map(len, pile))
        for name, fraction in fractions.items():
            # What a small slice could not give, the next one does.
            chosen[name] += _take(pile, fraction * seen - len(chosen[name]))
    _fill(chosen, [group for pile in piles.values() for group in pile], order)
    return chosen


def _fill(chosen: dict[str, Cluster], rest: list[Cluster], order: random.Random) -> None:
    """Give a split that got nothing one cluster, the smallest: every slice had but one to lose."""
    order.shuffle(rest)
    rest.sort(key=len)
    for name, places in chosen.items():
        if not places:
            chosen[name] = rest.pop(0)


def _take(pile: list[Cluster], wanted: float) -> Cluster:
    """Move clusters from the pile while they fit into `wanted` rows, and leave one."""
    taken: Cluster = []
    for group in list(pile):
        if len(pile) > 1 and len(taken) + len(group) <= wanted + 0.5:
            pile.remove(group)
            taken += group
    return taken
