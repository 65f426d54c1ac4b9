"""Build the dev report, with the details the optimizer uses, and the test report, with numbers only."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from contracts.options import EvaluationOptions, Metric
from contracts.report import BadCase, Confusion, DevReport, TestReport
from evaluator_worker.metrics import label_key
from evaluator_worker.row_results import RowResult, RowResults
from evaluator_worker.slices import by_slice
from evaluator_worker.suggestions import suggest

MIN_CORRECT_VALUE = {Metric.EXACT_MATCH: 1.0, Metric.TOKEN_F1: 0.5, Metric.ROUGE_L: 0.5}
"""The lowest value at which an answer is not a bad case; for perplexity, rows below the mean are bad cases."""


def dev_report(outcomes: RowResults, options: EvaluationOptions, seed: int) -> DevReport:
    """Return scores, slices, bad cases, confusions and suggestions. Raises BadInput if no row could be scored."""
    score = outcomes.score("dev", options, seed)
    slices = by_slice(outcomes, options, seed)
    wrong = _wrong_rows(outcomes)
    bad_cases = tuple(_bad_case(o, outcomes) for o in _interleave_slices(wrong, outcomes)[: options.max_bad_cases])
    confusions = _confusions(wrong, outcomes.scored)
    return DevReport(
        score=score,
        metrics=outcomes.metrics(),
        slices=slices,
        bad_cases=bad_cases,
        confusions=confusions,
        suggestions=suggest(score, slices, bad_cases, confusions),
    )


def test_report(outcomes: RowResults, options: EvaluationOptions, seed: int) -> TestReport:
    """Return the numbers of the test split. Raises BadInput if no row could be scored."""
    return TestReport(score=outcomes.score("test", options, seed), metrics=outcomes.metrics())


def _wrong_rows(outcomes: RowResults) -> list[RowResult]:
    right_from = MIN_CORRECT_VALUE.get(outcomes.metric, outcomes.value())
    return [o for o in outcomes.scored if outcomes.value([o]) < right_from]


def _interleave_slices(wrong: Iterable[RowResult], outcomes: RowResults) -> list[RowResult]:
    """Order rows worst first, one from each slice in rotation, so that a limit keeps rows of every slice."""
    seen: Counter[str] = Counter()
    ranked = []
    for outcome in sorted(wrong, key=lambda o: outcomes.value([o])):
        ranked.append((seen[outcome.row.slice], outcome))
        seen[outcome.row.slice] += 1
    return [outcome for _, outcome in sorted(ranked, key=lambda pair: pair[0])]


def _bad_case(outcome: RowResult, outcomes: RowResults) -> BadCase:
    row = outcome.row
    return BadCase(
        row_id=row.id,
        slice=row.slice,
        prompt=row.prompt,
        expected=row.response,
        predicted=outcome.predicted,
        value=outcomes.value([outcome]),
    )


def _confusions(wrong: Iterable[RowResult], scored: Iterable[RowResult]) -> tuple[Confusion, ...]:
    """Count the wrong answers that are the reference answer of another row: one label taken for another."""
    references: dict[str, str] = {}
    for outcome in scored:
        references.setdefault(label_key(outcome.row.response), outcome.row.response)
    pairs = Counter(
        (references[label_key(o.row.response)], references[label_key(o.predicted)])
        for o in wrong
        if o.row.response and label_key(o.predicted) in references
    )
    return tuple(Confusion(expected=e, predicted=p, rows=n) for (e, p), n in pairs.most_common() if e != p)
