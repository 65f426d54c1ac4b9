"""The two reports: dev with all that the optimizer may know, test with numbers only."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from contracts.options import EvaluationOptions, Metric
from contracts.report import BadCase, Confusion, DevReport, TestReport
from evaluator_worker.metrics import normalize
from evaluator_worker.outcomes import Outcome, Outcomes
from evaluator_worker.slices import by_slice
from evaluator_worker.suggestions import suggest

RIGHT_FROM = {Metric.EXACT_MATCH: 1.0, Metric.TOKEN_F1: 0.5, Metric.ROUGE_L: 0.5}
"""The value from which an answer is no bad case. Under perplexity, a row less likely than the mean is one."""


def dev_report(outcomes: Outcomes, options: EvaluationOptions, seed: int) -> DevReport:
    """Scores, slices, bad cases, confusions and suggestions. Raises BadInput where nothing could be scored."""
    score = outcomes.score("dev", options, seed)
    slices = by_slice(outcomes, options, seed)
    wrong = _wrong(outcomes)
    bad_cases = tuple(_bad_case(o, outcomes) for o in _spread(wrong, outcomes)[: options.max_bad_cases])
    confusions = _confusions(wrong, outcomes.scored)
    return DevReport(
        score=score,
        metrics=outcomes.metrics(),
        slices=slices,
        bad_cases=bad_cases,
        confusions=confusions,
        suggestions=suggest(score, slices, bad_cases, confusions),
    )


def test_report(outcomes: Outcomes, options: EvaluationOptions, seed: int) -> TestReport:
    """Numbers only. Raises BadInput where nothing could be scored."""
    return TestReport(score=outcomes.score("test", options, seed), metrics=outcomes.metrics())


def _wrong(outcomes: Outcomes) -> list[Outcome]:
    right_from = RIGHT_FROM.get(outcomes.metric, outcomes.value())
    return [o for o in outcomes.scored if outcomes.value([o]) < right_from]


def _spread(wrong: Iterable[Outcome], outcomes: Outcomes) -> list[Outcome]:
    """Worst first, one from each slice in turn, so that a limit on their number leaves no slice without any."""
    seen: Counter[str] = Counter()
    ranked = []
    for outcome in sorted(wrong, key=lambda o: outcomes.value([o])):
        ranked.append((seen[outcome.row.slice], outcome))
        seen[outcome.row.slice] += 1
    return [outcome for _, outcome in sorted(ranked, key=lambda pair: pair[0])]


def _bad_case(outcome: Outcome, outcomes: Outcomes) -> BadCase:
    row = outcome.row
    return BadCase(
        row_id=row.id,
        slice=row.slice,
        prompt=row.prompt,
        expected=row.response,
        predicted=outcome.predicted,
        value=outcomes.value([outcome]),
    )


def _confusions(wrong: Iterable[Outcome], scored: Iterable[Outcome]) -> tuple[Confusion, ...]:
    """Answers that are right elsewhere: where answers come from a closed set, which is taken for which."""
    known: dict[str, str] = {}
    for outcome in scored:
        known.setdefault(normalize(outcome.row.response), outcome.row.response)
    pairs = Counter(
        (known[normalize(o.row.response)], known[normalize(o.predicted)])
        for o in wrong
        if o.row.response and normalize(o.predicted) in known
    )
    return tuple(Confusion(expected=e, predicted=p, rows=n) for (e, p), n in pairs.most_common() if e != p)
