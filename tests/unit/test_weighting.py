from __future__ import annotations

import pytest

from optimizer_worker.feedback.weighting import reweight, slice_weights
from tests.examples import report, row

SLICES = {"weak": (0.1, 50), "fair": (0.8, 50), "tiny": (0.0, 1)}


def test_a_slice_that_surely_fails_more_weighs_more_and_no_slice_weighs_less() -> None:
    weights = slice_weights(report([], SLICES), 3.0)
    assert weights["weak"] > 1.3 and weights["fair"] == weights["tiny"] == 1.0


def test_no_weight_exceeds_the_most() -> None:
    assert slice_weights(report([], SLICES), 1.2)["weak"] == 1.2


def test_the_mean_weight_of_the_rows_is_one() -> None:
    rows, _ = reweight([row(f"q{n}", "weak" if n < 3 else "fair") for n in range(10)], {"weak": 2.0})
    assert sum(r.weight for r in rows) / 10 == pytest.approx(1, abs=1e-3)


def test_the_ledger_lists_only_the_weak_rows() -> None:
    _, verdicts = reweight([row("a", "weak"), row("b", "fair")], {"weak": 2.0})
    assert [v.row for v in verdicts] == ["a"]
