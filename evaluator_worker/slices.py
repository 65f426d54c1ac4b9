"""The score broken down by the rows' slices."""

from __future__ import annotations

from collections import defaultdict

from contracts.options import EvaluationOptions, Metric
from contracts.report import SliceScore
from evaluator_worker.outcomes import Outcome, Outcomes
from infra.statistics import wilson


def by_slice(outcomes: Outcomes, options: EvaluationOptions, seed: int) -> tuple[SliceScore, ...]:
    """One score a slice, weakest first. Answers get Wilson's interval, perplexities a bootstrap."""
    groups: dict[str, list[Outcome]] = defaultdict(list)
    for outcome in outcomes.scored:
        groups[outcome.row.slice].append(outcome)
    scores = [_slice_score(name, group, outcomes, options, seed) for name, group in groups.items()]
    return tuple(sorted(scores, key=lambda s: (s.value, s.name)))


def _slice_score(
    name: str, group: list[Outcome], outcomes: Outcomes, options: EvaluationOptions, seed: int
) -> SliceScore:
    value = outcomes.value(group)
    if outcomes.metric is Metric.PERPLEXITY:
        low, high = outcomes.interval(group, options.bootstrap_samples, seed)
    else:
        low, high = wilson(value, len(group))
    return SliceScore(name=name, value=value, low=low, high=high, rows=len(group))
