"""A flood of lines of one kind is logged in part, and the rest is counted."""

from __future__ import annotations

from infra.log_limit import MAX_KINDS, LogLimit


def test_lines_above_the_limit_are_left_out_and_counted_by_the_next_period() -> None:
    now = 0.0
    limit = LogLimit(lines=2, period=60, clock=lambda: now)
    first = [limit.skipped("kind") for _ in range(5)]
    now = 61.0
    assert (first, limit.skipped("kind")) == ([0, 0, None, None, None], 3)


def test_each_kind_has_its_own_limit() -> None:
    limit = LogLimit(lines=1)
    assert [limit.skipped("one"), limit.skipped("other"), limit.skipped("one")] == [0, 0, None]


def test_only_so_many_kinds_are_counted() -> None:
    limit = LogLimit(lines=1)
    for number in range(3 * MAX_KINDS):
        limit.skipped(number)
    assert len(limit._windows) <= MAX_KINDS
