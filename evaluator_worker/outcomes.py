"""How rows came out, and the scores that are made of them."""

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


@dataclass(frozen=True, slots=True)
class Outcome:
    """One scored row. A score is `link(sum(total) / sum(weight))`, with `exp` as the link of log-probabilities."""

    row: Row
    total: float
    weight: float = 1.0
    """1 for an answer; for perplexity the number of scored tokens, `total` being their log-probability."""
    predicted: str = ""
    metrics: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Unscored:
    """A row that no number can be given, and why. It is counted apart, never as 0."""

    row: Row
    reason: str


@dataclass(frozen=True, slots=True)
class Outcomes:
    """All rows of one split under one metric."""

    metric: Metric
    scored: tuple[Outcome, ...]
    unscored: tuple[Unscored, ...] = ()

    def value(self, outcomes: Sequence[Outcome] | None = None) -> float:
        """The score of some of the outcomes, or of all, in [0, 1]."""
        some = self.scored if outcomes is None else outcomes
        return self.link(sum(o.total for o in some) / sum(o.weight for o in some))

    def link(self, mean: float) -> float:
        """From the mean of the totals to the score; rounding may not leave [0, 1]."""
        value = math.exp(mean) if self.metric is Metric.PERPLEXITY else mean
        return min(1.0, max(0.0, value))

    def interval(self, outcomes: Sequence[Outcome], samples: int, seed: int) -> tuple[float, float]:
        """The 95 % bootstrap interval of `value(outcomes)`."""
        totals = np.array([o.total for o in outcomes], dtype=np.float64)
        weights = np.array([o.weight for o in outcomes], dtype=np.float64)
        low, high = bootstrap(totals, weights, samples, seed)
        return self.link(low), self.link(high)

    def score(self, split: str, options: EvaluationOptions, seed: int) -> Score:
        """The split's score. Raises BadInput where no row could be scored."""
        if not self.scored:
            reasons = ", ".join(sorted({u.reason for u in self.unscored})) or "it is empty"
            raise BadInput(f"no row of {split} could be scored by {self.metric}: {reasons}", field=split)
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
        """Every number that the rows were given, as a mean over the scored rows; perplexity as itself."""
        if self.metric is Metric.PERPLEXITY:
            return {"perplexity": 1 / max(self.value(), 1e-300), "tokens": sum(o.weight for o in self.scored)}
        names = self.scored[0].metrics
        return {name: sum(o.metrics[name] for o in self.scored) / len(self.scored) for name in names}
