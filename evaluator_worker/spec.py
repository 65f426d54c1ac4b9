"""The program's input, `spec.json`, and its output, `result.json`."""

from __future__ import annotations

from contracts.message import Frozen
from contracts.notices import Notices
from contracts.options import EvaluationOptions, Metric
from contracts.report import Score
from infra.models.model_inputs import ModelLocation


class Spec(Frozen):
    """The model to score, the metric and its options."""

    model: ModelLocation
    metric: Metric
    options: EvaluationOptions
    seed: int
    """Seed of the bootstrap; greedy generation uses no random numbers."""


class Result(Frozen):
    """The scores for the event; the names of `metrics` begin with `dev_` or `test_`."""

    dev: Score
    test: Score | None
    metrics: dict[str, float]
    notices: Notices = ()
