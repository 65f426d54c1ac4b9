"""Compute the score of each slice."""

from __future__ import annotations

from collections import defaultdict

from contracts.options import EvaluationOptions, Metric
from contracts.report import SliceScore
from evaluator_worker.row_results import RowResult, RowResults
from infra.statistics import wilson


def by_slice(outcomes: RowResults, options: EvaluationOptions, seed: int) -> tuple[SliceScore, ...]:
    """Return one score for each slice, weakest first, with a Wilson interval (perplexity: a bootstrap interval)."""
    groups: dict[str, list[RowResult]] = defaultdict(list)
    for outcome in outcomes.scored:
        groups[outcome.row.slice].append(outcome)
    scores = [_slice_score(name, group, outcomes, options, seed) for name, group in groups.items()]
    return tuple(sorted(scores, key=lambda s: (s.value, s.name)))


def _slice_score(
    name: str, group: list[RowResult], outcomes: RowResults, options: EvaluationOptions, seed: int
) -> SliceScore:
    value = outcomes.value(group)
    if outcomes.metric is Metric.PERPLEXITY:
        low, high = outcomes.interval(group, options.bootstrap_samples, seed)
    else:
        low, high = wilson(value, len(group))
    return SliceScore(name=name, value=value, low=low, high=high, rows=len(group))
