"""The results of single rows, and the scores computed from them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from contracts.options import EvaluationOptions, Metric
from contracts.report import Score
from contracts.rows import Row
from evaluator_worker.intervals import bootstrap
from infra.errors import BadInput

SEALED = "test"
"""The split of which no text may be shown."""
MAX_REASONS = 10
"""Maximum reasons that a text or a list of notices names."""


@dataclass(frozen=True, slots=True)
class RowResult:
    """One scored row; the score of several is `sum(total) / sum(weight)`, for perplexity the `exp` of that."""

    row: Row
    total: float
    weight: float = 1.0
    """1 for an answer; for perplexity the number of scored tokens, and `total` is their log-probability in nats."""
    predicted: str = ""
    metrics: Mapping[str, float] = field(default_factory=dict)
    cut: bool = False
    """Whether the answer ended at the limit of new tokens and not at a stop token."""
    reference: int = 0
    """Number of tokens of the reference answer."""
    shortened: bool = False
    """Whether the row was longer than the model's context, so that a part of it was left out."""


@dataclass(frozen=True, slots=True)
class Unscored:
    """A row that could not be scored, with the reason; it is counted separately, never as 0.

    `reason` quotes nothing of the row, but `detail` may, so it is not shown for sealed rows.
    """

    row: Row
    reason: str
    detail: str = ""

    def __str__(self) -> str:
        return f"{self.reason}: {self.detail}" if self.detail else self.reason


@dataclass(frozen=True, slots=True)
class RowResults:
    """The results of all rows of one split under one metric."""

    metric: Metric
    scored: tuple[RowResult, ...]
    unscored: tuple[Unscored, ...] = ()

    def value(self, outcomes: Sequence[RowResult] | None = None) -> float:
        """Return the score, in [0, 1], of the given results, or of all scored rows if none are given."""
        chosen = self.scored if outcomes is None else outcomes
        return self.link(sum(o.total for o in chosen) / sum(o.weight for o in chosen))

    def link(self, mean: float) -> float:
        """Convert the weighted mean of the totals to a score, clipped to [0, 1] against rounding errors."""
        value = math.exp(mean) if self.metric is Metric.PERPLEXITY else mean
        return min(1.0, max(0.0, value))

    def interval(self, outcomes: Sequence[RowResult], samples: int, seed: int) -> tuple[float, float]:
        """Return the 95 % bootstrap interval of `value(outcomes)`."""
        totals = np.array([o.total for o in outcomes], dtype=np.float64)
        weights = np.array([o.weight for o in outcomes], dtype=np.float64)
        low, high = bootstrap(totals, weights, samples, seed)
        return self.link(low), self.link(high)

    def score(self, split: str, options: EvaluationOptions, seed: int) -> Score:
        """Return the split's score. Raises BadInput if no row could be scored."""
        if not self.scored:
            texts = {u.reason if split == SEALED else str(u) for u in self.unscored}
            reasons = "; ".join(sorted(texts)[:MAX_REASONS]) or "the split is empty"
            raise BadInput(f"no row of {split} could be scored by {self.metric}; reasons: {reasons}", field=split)
        low, high = self.interval(self.scored, options.bootstrap_samples, seed)
        return Score(
            metric=self.metric,
            value=self.value(),
            low=low,
            high=high,
            scored=len(self.scored),
            unscored=len(self.unscored),
        )

    def metrics(self) -> dict[str, float]:
        """Return the mean of every metric and the number of cut answers, or the perplexity and its scored tokens."""
        if self.metric is Metric.PERPLEXITY:
            return {"perplexity": 1 / max(self.value(), 1e-300), "tokens": sum(o.weight for o in self.scored)}
        names = self.scored[0].metrics
        means = {name: sum(o.metrics[name] for o in self.scored) / len(self.scored) for name in names}
        return {**means, "cut_answers": float(len(self.cut()))}

    def cut(self) -> list[RowResult]:
        """Return the rows whose answers were cut at the limit of new tokens."""
        return [outcome for outcome in self.scored if outcome.cut]
