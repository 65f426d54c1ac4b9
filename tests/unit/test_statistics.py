"""Wilson's interval against published tables, and whole numbers that keep proportions."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as some

from infra.statistics import largest_remainders, wilson


@pytest.mark.parametrize(
    ("right", "rows", "low", "high"),
    # computed by hand from Wilson's formula, as in Newcombe (1998), table I
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_gives_the_published_intervals(right: int, rows: int, low: float, high: float) -> None:
    assert wilson(right / rows, rows) == pytest.approx((low, high), abs=5e-5)


def test_wilson_gives_a_wide_interval_for_one_row() -> None:
    low, high = wilson(1.0, 1)
    assert low < 0.25
    assert high == 1.0


def test_the_interval_of_no_rows_is_from_0_to_1() -> None:
    assert wilson(0.5, 0) == (0.0, 1.0)


@pytest.mark.parametrize(
    ("masses", "total", "whole"),
    [
        ([1, 1, 1], 10, [4, 3, 3]),
        ([2, 1], 10, [7, 3]),
        ([0, 5, 0], 3, [0, 3, 0]),
        ([0.5, 0.25, 0.25], 4, [2, 1, 1]),
        ([0, 0], 7, [0, 0]),
        ([], 7, []),
        ([3, 1], 0, [0, 0]),
    ],
)
def test_largest_remainders_are_rounded_up(masses: list[float], total: int, whole: list[int]) -> None:
    assert largest_remainders(masses, total) == whole


@given(some.lists(some.floats(0, 1000), min_size=1, max_size=20), some.integers(0, 500))
def test_the_whole_numbers_sum_to_the_total_and_none_is_off_by_one_or_more(masses: list[float], total: int) -> None:
    whole, mass = largest_remainders(masses, total), sum(masses)
    if mass > 0:
        assert sum(whole) == total
        assert all(abs(rounded - total * part / mass) < 1 + 1e-9 for rounded, part in zip(whole, masses, strict=True))
