"""Give the rows of weak slices more weight in training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from contracts.report import DevReport
from contracts.rows import Row
from infra.statistics import wilson
from optimizer_worker.ledger import Action, RuleDecision

WEIGHT_PER_ERROR = 2.0
"""Weight added for each unit of error rate above the mean."""


def slice_weights(report: DevReport, max_weight: float) -> dict[str, float]:
    """Return 1 + WEIGHT_PER_ERROR * (slice error - mean error), limited to [1, max_weight], for each slice.

    The slice error is the lower end of its Wilson interval.
    """
    error = 1 - report.score.value
    return {
        part.name: min(max_weight, max(1.0, 1 + WEIGHT_PER_ERROR * (wilson(1 - part.value, part.rows)[0] - error)))
        for part in report.slices
    }


def reweight(rows: Sequence[Row], weights: Mapping[str, float]) -> tuple[list[Row], list[RuleDecision]]:
    """Return the rows with the factors of their slices, and decisions for the weak slices.

    The factors are scaled to a mean of 1 over the rows. They replace those of earlier iterations; `Row.weight` stays.
    """
    mean = sum(weights.get(row.slice, 1.0) for row in rows) / len(rows)
    weighted, decisions = [], []
    for row in rows:
        slice_weight = weights.get(row.slice, 1.0)
        factor = round(slice_weight / mean, 4)
        weighted.append(row.model_copy(update={"slice_weight": factor}))
        if slice_weight > 1:
            decisions.append(RuleDecision(row.id, Action.REWEIGHTED, "reweighted", factor, 1.0))
    return weighted, decisions
