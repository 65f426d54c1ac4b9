"""What passes between the handlers and the program, as `spec.json` and `result.json`."""

from __future__ import annotations

from contracts.message import Frozen
from contracts.options import EvaluationOptions, Metric
from contracts.report import Score
from infra.models.model_inputs import ModelLocation


class Spec(Frozen):
    """What to score, and how."""

    model: ModelLocation
    metric: Metric
    options: EvaluationOptions
    seed: int
    """Of the bootstrap; greedy answers need none."""


class Result(Frozen):
    """What the event will say; `metrics` are named `dev_…` and `test_…`."""

    dev: Score
    test: Score | None
    metrics: dict[str, float]
