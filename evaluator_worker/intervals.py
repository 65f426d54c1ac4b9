"""95 % intervals by a percentile bootstrap over rows."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
DRAWS_AT_ONCE = 4_000_000
"""Row numbers held in memory at one time, which bounds the bootstrap of many rows to some 32 MB an array."""


def bootstrap(totals: Floats, weights: Floats, samples: int, seed: int) -> tuple[float, float]:
    """Percentile interval of `sum(totals) / sum(weights)` when rows (n,) are drawn with replacement."""
    random = np.random.default_rng(seed)
    rows = len(totals)
    at_once = max(1, DRAWS_AT_ONCE // rows)
    means: list[Floats] = []
    for done in range(0, samples, at_once):
        drawn = random.integers(rows, size=(min(at_once, samples - done), rows))
        means.append(totals[drawn].sum(axis=1) / weights[drawn].sum(axis=1))
    low, high = np.percentile(np.concatenate(means), [2.5, 97.5])
    return float(low), float(high)
