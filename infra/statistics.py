"""Wilson's interval, and whole numbers in given proportions."""

from __future__ import annotations

import math
from collections.abc import Sequence

Z = 1.959964
"""Two-sided 95 % quantile of the normal distribution."""


def wilson(share: float, count: int) -> tuple[float, float]:
    """The 95 % interval of a share of `count` trials (Wilson 1927), valid for 0, for 1 and for few trials."""
    if count == 0:
        return 0.0, 1.0
    spread = Z * Z / count
    centre = (share + spread / 2) / (1 + spread)
    half = Z * math.sqrt(share * (1 - share) / count + spread / (4 * count)) / (1 + spread)
    return max(0.0, centre - half), min(1.0, centre + half)


def largest_remainders(masses: Sequence[float], total: int) -> list[int]:
    """Whole numbers in proportion to `masses` that sum to `total`; all 0 if the sum of `masses` is 0.

    The parts with the largest remainders are rounded up (Hamilton's method); of equal remainders, the first.
    """
    mass = sum(masses)
    if mass <= 0:
        return [0] * len(masses)
    exact = [total * part / mass for part in masses]
    whole = [int(value) for value in exact]
    by_remainder = sorted(range(len(exact)), key=lambda index: whole[index] - exact[index])
    for index in by_remainder[: total - sum(whole)]:
        whole[index] += 1
    return whole
