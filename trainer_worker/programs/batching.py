"""Which rows go together: batches of rows of like length under a budget of padded tokens.

Little padding is worth a factor of two on a CPU against batches of random rows.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

Batch = list[int]
"""Indices of rows."""

CHUNK = 64
"""Batches' worth of rows that are sorted by length together; larger sets keep their randomness beyond it."""


class BatchStream:
    """An endless, seeded stream of batches; `epoch` and `index` say which comes next, and may be set."""

    def __init__(self, lengths: Sequence[int], budget: int, seed: int) -> None:
        self._lengths = lengths
        self._budget = budget
        self._seed = seed
        self.epoch = 0
        self.index = 0
        self._planned: tuple[int, list[Batch]] | None = None

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        batch = self._plan(self.epoch)[self.index]
        self.index += 1
        if self.index == len(self._plan(self.epoch)):
            self.epoch, self.index = self.epoch + 1, 0
        return batch

    def per_epoch(self) -> int:
        """Batches of the first epoch; later ones differ from it by very few."""
        return len(self._plan(0))

    def _plan(self, epoch: int) -> list[Batch]:
        if self._planned is None or self._planned[0] != epoch:
            rng = random.Random(f"{self._seed}/{epoch}")  # noqa: S311  # a shuffle, no secret
            self._planned = epoch, plan_epoch(self._lengths, self._budget, rng)
        return self._planned[1]


def plan_epoch(lengths: Sequence[int], budget: int, rng: random.Random) -> list[Batch]:
    """Every row once, in batches whose padded size (rows times longest row) is at most `budget` tokens.

    A row longer than `budget` is a batch of its own.
    """
    order = list(range(len(lengths)))
    rng.shuffle(order)
    mean = sum(lengths) / len(lengths)
    size = max(1, round(CHUNK * budget / mean))
    batches: list[Batch] = []
    for start in range(0, len(order), size):
        # The sort is stable, so rows of one length stay shuffled.
        chunk = sorted(order[start : start + size], key=lambda row: lengths[row])
        batches += _cut_evenly(chunk, lengths, budget)
    rng.shuffle(batches)
    return batches


def _cut_evenly(rows: Batch, lengths: Sequence[int], budget: int) -> list[Batch]:
    """As few batches as the budget allows, then the smallest budget that needs no more of them.

    So no batch of a few left-over rows makes a full step.
    """
    fewest = len(_cut(rows, lengths, budget))
    low, high = 0, budget
    while high - low > max(1, budget // 64):
        middle = (low + high) // 2
        low, high = (low, middle) if len(_cut(rows, lengths, middle)) == fewest else (middle, high)
    return _cut(rows, lengths, high)


def _cut(rows: Batch, lengths: Sequence[int], budget: int) -> list[Batch]:
    """Greedy: rows ascend in length, so the newest is the longest of its batch."""
    batches: list[Batch] = [[]]
    for row in rows:
        if batches[-1] and (len(batches[-1]) + 1) * lengths[row] > budget:
            batches.append([])
        batches[-1].append(row)
    return batches
