"""How much a row weighs in training: more where its slice fails more often than the rest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from contracts.report import DevReport
from contracts.rows import Row
from infra.statistics import wilson
from optimizer_worker.ledger import Action, Verdict

STRENGTH = 2.0
"""Weight gained for each unit of error above the mean."""


def slice_weights(report: DevReport, most: float) -> dict[str, float]:
    """1 plus STRENGTH times the slice's error (the lower end of its Wilson interval) above the mean, in [1, most]."""
    error = 1 - report.score.value
    return {
        part.name: min(most, max(1.0, 1 + STRENGTH * (wilson(1 - part.value, part.rows)[0] - error)))
        for part in report.slices
    }


def reweight(rows: Sequence[Row], weights: Mapping[str, float]) -> tuple[list[Row], list[Verdict]]:
    """The rows with the weights of their slices, scaled so that their mean is 1; verdicts for the weak slices."""
    mean = sum(weights.get(row.slice, 1.0) for row in rows) / len(rows)
    weighted, verdicts = [], []
    for row in rows:
        gained = weights.get(row.slice, 1.0)
        weighted.append(row.model_copy(update={"weight": round(gained / mean, 4)}))
        if gained > 1:
            verdicts.append(Verdict(row.id, Action.REWEIGHTED, "reweighted", round(gained / mean, 4), 1.0))
    return weighted, verdicts
