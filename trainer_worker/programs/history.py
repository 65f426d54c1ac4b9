"""The loss as it went, without waiting for the device at every step."""

from __future__ import annotations

import math
from collections import deque

import torch
from pydantic import BaseModel

from infra.errors import BadConfiguration

POINTS = 200
"""Points that a run's curve has at most, or twice as many where the steps do not divide."""
RECENT = 20


class Snapshot(BaseModel):
    """A history as numbers: its curve, the interval that has not ended, the last steps."""

    points: list[tuple[int, float]]
    interval: list[float]
    recent: list[float]


class LossHistory:
    """Means over equal intervals of steps. Reading it raises BadConfiguration where the loss has gone to NaN or inf."""

    def __init__(self, steps: int) -> None:
        self._every = max(1, steps // POINTS)
        self._interval: list[torch.Tensor] = []
        self._recent: deque[torch.Tensor] = deque(maxlen=RECENT)
        self.points: list[tuple[int, float]] = []
        """(step, mean loss of the interval that ends with it), in nats a token."""

    def record(self, step: int, loss: torch.Tensor) -> None:
        """Remember the loss of step `step` (from 1)."""
        self._interval.append(loss.detach())
        self._recent.append(loss.detach())
        if step % self._every == 0:
            self.points.append((step, _finite_mean(self._interval)))
            self._interval = []

    def recent(self) -> float:
        """Mean of the last steps."""
        return _finite_mean(list(self._recent))

    def snapshot(self) -> Snapshot:
        """All that a checkpoint needs."""
        return Snapshot(
            points=list(self.points),
            interval=[float(loss) for loss in self._interval],
            recent=[float(loss) for loss in self._recent],
        )

    def restore(self, snapshot: Snapshot) -> None:
        """Go on from a checkpoint."""
        self.points = list(snapshot.points)
        self._interval = [torch.tensor(loss) for loss in snapshot.interval]
        self._recent.extend(torch.tensor(loss) for loss in snapshot.recent)


def _finite_mean(losses: list[torch.Tensor]) -> float:
    mean = sum(float(loss) for loss in torch.stack(losses).tolist()) / len(losses)
    if not math.isfinite(mean):
        raise BadConfiguration(
            f"the loss became {mean}: training diverged; try a lower learning_rate (a tenth, say)",
            field="learning_rate",
        )
    return mean
