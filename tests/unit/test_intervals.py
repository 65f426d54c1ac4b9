from __future__ import annotations

import numpy as np
import pytest

from evaluator_worker import intervals
from evaluator_worker.intervals import bootstrap


def _binary(right: int, rows: int) -> np.ndarray:
    return np.array([1.0] * right + [0.0] * (rows - right))


def test_the_bootstrap_agrees_with_the_normal_approximation_on_many_rows() -> None:
    low, high = bootstrap(_binary(400, 800), np.ones(800), 4000, seed=1)
    assert (low, high) == pytest.approx((0.5 - 1.96 * 0.01768, 0.5 + 1.96 * 0.01768), abs=0.005)


def test_the_same_seed_gives_the_same_interval() -> None:
    totals = _binary(30, 100)
    assert bootstrap(totals, np.ones(100), 500, seed=7) == bootstrap(totals, np.ones(100), 500, seed=7)


def test_rows_that_do_not_fit_at_once_are_drawn_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intervals, "MAX_DRAWS_IN_MEMORY", 1000)
    low, high = bootstrap(_binary(50, 100), np.ones(100), 1000, seed=1)
    assert low < 0.45 < 0.55 < high


def test_a_ratio_weighs_each_row_by_its_tokens() -> None:
    # the long row decides the ratio of every sample that contains it
    totals, weights = np.array([-1.0, -1.0, -9000.0]), np.array([1.0, 1.0, 3000.0])
    low, high = bootstrap(totals, weights, 1000, seed=1)
    assert low == pytest.approx(-3.0, abs=0.01)
    assert high == pytest.approx(-1.0)
