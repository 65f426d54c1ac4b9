"""Group rows of similar length into batches with a budget of padded tokens, because padding costs computing time."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

Batch = list[int]
"""Indices of rows."""

CHUNK = 64
"""Number of batches whose rows are sorted by length together; rows are assigned to such chunks at random."""


class BatchStream:
    """An endless, seeded stream of batches; `epoch` and `index` give the next batch and can be set to resume."""

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
        """Return the number of batches in the first epoch; later epochs can differ slightly."""
        return len(self._plan(0))

    def _plan(self, epoch: int) -> list[Batch]:
        if self._planned is None or self._planned[0] != epoch:
            rng = random.Random(f"{self._seed}/{epoch}")  # noqa: S311  # a shuffle, not used for security
            self._planned = epoch, plan_epoch(self._lengths, self._budget, rng)
        return self._planned[1]


def plan_epoch(lengths: Sequence[int], budget: int, rng: random.Random) -> list[Batch]:
    """Return batches with every row once, of a padded size (rows times longest row) of at most `budget` tokens.

    A row longer than `budget` is a batch of its own.
    """
    order = list(range(len(lengths)))
    rng.shuffle(order)
    mean = sum(lengths) / len(lengths)
    size = max(1, round(CHUNK * budget / mean))
    batches: list[Batch] = []
    for start in range(0, len(order), size):
        # The sort is stable, so rows of equal length stay shuffled.
        chunk = sorted(order[start : start + size], key=lambda row: lengths[row])
        batches += _cut_evenly(chunk, lengths, budget)
    rng.shuffle(batches)
    return batches


def _cut_evenly(rows: Batch, lengths: Sequence[int], budget: int) -> list[Batch]:
    """Cut the rows into as few batches as `budget` allows, but with the smallest budget that needs no more batches.

    This avoids a last batch of only a few rows, which would still be a full step.
    """
    fewest = len(_cut(rows, lengths, budget))
    low, high = 0, budget
    while high - low > max(1, budget // 64):
        middle = (low + high) // 2
        low, high = (low, middle) if len(_cut(rows, lengths, middle)) == fewest else (middle, high)
    return _cut(rows, lengths, high)


def _cut(rows: Batch, lengths: Sequence[int], budget: int) -> list[Batch]:
    """Cut greedily; the rows are sorted by length, so the last row of a batch is its longest."""
    batches: list[Batch] = [[]]
    for row in rows:
        if batches[-1] and (len(batches[-1]) + 1) * lengths[row] > budget:
            batches.append([])
        batches[-1].append(row)
    return batches
