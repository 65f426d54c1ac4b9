"""Record the loss without synchronising with the device at every step."""

from __future__ import annotations

import math
from collections import deque

import torch
from pydantic import BaseModel

from infra.errors import BadConfiguration

CURVE_POINTS = 200
"""Intended number of points of a loss curve; up to twice as many if the steps do not divide evenly."""
RECENT_STEPS = 20
"""Number of last steps whose mean loss is reported."""


class Snapshot(BaseModel):
    """The history as plain numbers: the curve, the losses of the unfinished interval, and those of the last steps."""

    points: list[tuple[int, float]]
    interval: list[float]
    recent: list[float]


class LossHistory:
    """The curve of the loss, as means over equal intervals of steps."""

    def __init__(self, steps: int) -> None:
        self._every = max(1, steps // CURVE_POINTS)
        self._interval: list[torch.Tensor] = []
        self._recent: deque[torch.Tensor] = deque(maxlen=RECENT_STEPS)
        self.points: list[tuple[int, float]] = []
        """(step, mean loss of the interval that ends with it), in nats per token."""

    def record(self, step: int, loss: torch.Tensor) -> None:
        """Record the loss of step `step`, from 1. Raises BadConfiguration if an interval's mean is not finite."""
        self._interval.append(loss.detach())
        self._recent.append(loss.detach())
        if step % self._every == 0:
            self.points.append((step, _finite_mean(self._interval)))
            self._interval = []

    def recent(self) -> float:
        """Return the mean loss of the last steps, in nats per token. Raises BadConfiguration if it is not finite."""
        return _finite_mean(list(self._recent))

    def snapshot(self) -> Snapshot:
        """Return the state for a checkpoint, as plain numbers."""
        return Snapshot(
            points=list(self.points),
            interval=[float(loss) for loss in self._interval],
            recent=[float(loss) for loss in self._recent],
        )

    def restore(self, snapshot: Snapshot) -> None:
        """Restore the state from a checkpoint."""
        self.points = list(snapshot.points)
        self._interval = [torch.tensor(loss) for loss in snapshot.interval]
        self._recent.extend(torch.tensor(loss) for loss in snapshot.recent)


def _finite_mean(losses: list[torch.Tensor]) -> float:
    mean = sum(float(loss) for loss in torch.stack(losses).tolist()) / len(losses)
    if not math.isfinite(mean):
        raise BadConfiguration(
            f"the loss became {mean}: training diverged; try a lower learning_rate, for example a tenth",
            field="learning_rate",
        )
    return mean
