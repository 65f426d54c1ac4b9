"""Compute 95 % intervals by a percentile bootstrap over rows."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
MAX_DRAWS_IN_MEMORY = 4_000_000
"""Maximum number of drawn row numbers in memory at one time; it limits each array to about 32 MB."""


def bootstrap(totals: Floats, weights: Floats, samples: int, seed: int) -> tuple[float, float]:
    """Return the 95 % percentile interval of `sum(totals) / sum(weights)`; both arrays have shape (rows,)."""
    random = np.random.default_rng(seed)
    rows = len(totals)
    per_round = max(1, MAX_DRAWS_IN_MEMORY // rows)
    means: list[Floats] = []
    for done in range(0, samples, per_round):
        drawn = random.integers(rows, size=(min(per_round, samples - done), rows))
        means.append(totals[drawn].sum(axis=1) / weights[drawn].sum(axis=1))
    low, high = np.percentile(np.concatenate(means), [2.5, 97.5])
    return float(low), float(high)
