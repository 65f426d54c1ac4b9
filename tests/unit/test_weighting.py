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


def test_the_mean_factor_of_the_rows_is_one() -> None:
    rows, _ = reweight([row(f"q{n}", "weak" if n < 3 else "fair") for n in range(10)], {"weak": 2.0})
    assert sum(r.slice_weight for r in rows) / 10 == pytest.approx(1, abs=1e-3)


def test_the_ledger_lists_only_the_weak_rows() -> None:
    _, verdicts = reweight([row("a", "weak"), row("b", "fair")], {"weak": 2.0})
    assert [v.row for v in verdicts] == ["a"]


def test_the_own_weight_of_a_row_is_multiplied_by_the_factor_of_its_slice() -> None:
    heavy = row("a", "weak").model_copy(update={"weight": 5.0})
    rows, _ = reweight([heavy, row("b", "fair")], {"weak": 2.0})
    assert [r.training_weight for r in rows] == pytest.approx([5 * 2 / 1.5, 1 / 1.5], abs=1e-3)


def test_without_a_weak_slice_the_own_weights_stay() -> None:
    heavy = row("a", "fair").model_copy(update={"weight": 5.0})
    rows, decisions = reweight([heavy, row("b", "fair")], {})
    assert [r.training_weight for r in rows] == [5, 1] and not decisions


def test_a_later_iteration_replaces_the_factors_of_the_earlier_one() -> None:
    rows = [row("a", "weak").model_copy(update={"weight": 5.0}), row("b", "fair")]
    once, _ = reweight(rows, {"weak": 2.0})
    assert reweight(once, {"weak": 2.0})[0] == once
