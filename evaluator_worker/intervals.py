"""95 % intervals: a percentile bootstrap over rows, and Wilson's for the few rows of a slice."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Z = 1.959964
"""Two-sided 95 % quantile of the normal distribution."""
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


def wilson(share: float, rows: int) -> tuple[float, float]:
    """Wilson's interval (1927) of a share of `rows`; stays honest at 0, at 1 and for a handful of rows."""
    spread = Z * Z / rows
    centre = (share + spread / 2) / (1 + spread)
    half = Z * math.sqrt(share * (1 - share) / rows + spread / (4 * rows)) / (1 + spread)
    return max(0.0, centre - half), min(1.0, centre + half)
