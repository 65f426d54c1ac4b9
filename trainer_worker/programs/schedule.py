"""Compute the learning rate of each step."""

from __future__ import annotations

import math


def learning_rate(step: int, *, steps: int, peak: float, warmup_ratio: float) -> float:
    """Return the rate of step `step` (from 0) of `steps`: a linear rise to `peak`, then half a cosine to zero."""
    warmup = math.ceil(steps * warmup_ratio)
    if step < warmup:
        return peak * (step + 1) / warmup
    progress = (step - warmup) / max(1, steps - warmup)
    return peak * 0.5 * (1 + math.cos(math.pi * progress))
