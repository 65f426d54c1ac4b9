"""The definition of work, wall clock and overhead."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.tasks import TaskStatus
from control.store.values import AttemptClock, Standstill
from control.telemetry.work import WorkShare, overhead, work_share

START = datetime(2026, 1, 1, 12, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def attempt(due: float, claimed: float | None, ended: float, work: float | None) -> AttemptClock:
    return AttemptClock(at(due), None if claimed is None else at(claimed), at(ended), work)


def suspended(begin: float, end: float | None) -> Standstill:
    return Standstill(TaskStatus.SUSPENDED, at(begin), None if end is None else at(end))


def share_of(attempts: list[AttemptClock], *standstills: Standstill) -> tuple[float, float, float, float]:
    """Work, wall clock, overhead and unreported seconds."""
    share = work_share(attempts, standstills)
    assert share is not None
    return share.work, share.wall, round(share.overhead, 4), share.unreported


def test_all_that_is_no_work_is_overhead() -> None:
    assert share_of([attempt(0, 1, 10, 6), attempt(10, 12, 20, 8)]) == (14, 20, 0.3, 0)


def test_without_an_ended_attempt_there_is_no_overhead() -> None:
    assert work_share([], []) is None


def test_a_task_of_which_no_attempt_reported_its_work_has_no_overhead() -> None:
    assert work_share([attempt(0, 1, 10, None)], []) is None


@pytest.mark.parametrize("clock", [attempt(5, 5, 5, 0), attempt(3600, None, 10, 0)])
def test_without_wall_clock_there_is_no_overhead(clock: AttemptClock) -> None:
    assert work_share([clock], []) is None


def test_the_time_before_a_delayed_start_is_not_wall_clock() -> None:
    assert share_of([attempt(3600, 3601, 3610, 9)]) == (9, 10, 0.1, 0)


def test_a_delayed_start_that_a_kick_brought_forward_begins_with_the_kick() -> None:
    assert share_of([attempt(3600, None, 100, None), attempt(100, 102, 110, 8)]) == (8, 10, 0.2, 0)


def test_a_resume_that_sends_the_command_of_a_running_attempt_again_does_not_move_its_begin() -> None:
    assert share_of([attempt(8, 0, 10, 5)]) == (5, 10, 0.5, 0)


@pytest.mark.parametrize("status", [TaskStatus.SUSPENDED, TaskStatus.FAILED])
def test_the_time_in_which_the_task_stood_is_not_wall_clock(status: TaskStatus) -> None:
    attempts = [attempt(0, 0, 10, 9), attempt(500, 500, 510, 9)]
    assert share_of(attempts, Standstill(status, at(10), at(500))) == (18, 20, 0.1, 0)


def test_an_attempt_that_runs_on_during_a_pause_counts_with_its_time() -> None:
    attempts = [attempt(0, 0, 20, 18), attempt(100, 100, 110, 9)]
    assert share_of(attempts, suspended(5, 100)) == (27, 30, 0.1, 0)


def test_a_pause_that_is_listed_in_parts_counts_once() -> None:
    attempts = [attempt(0, 0, 10, 10), attempt(100, 100, 110, 10)]
    assert share_of(attempts, suspended(10, 40), suspended(30, 100)) == (20, 20, 0, 0)


def test_a_pause_that_lasts_ends_no_later_than_the_newest_attempt() -> None:
    assert share_of([attempt(0, 0, 10, 9)], suspended(10, None)) == (9, 10, 0.1, 0)


def test_a_command_that_waits_during_a_pause_does_not_count() -> None:
    assert share_of([attempt(0, 100, 110, 9)], suspended(2, 100)) == (9, 12, 0.25, 0)


def test_retries_and_their_backoff_are_overhead() -> None:
    assert share_of([attempt(0, 0, 5, 2), attempt(10, 10, 20, 8)]) == (10, 20, 0.5, 0)


def test_an_attempt_that_was_lost_is_overhead_and_its_time_is_named() -> None:
    assert share_of([attempt(0, 2, 50, None), attempt(50, 50, 60, 7)]) == (7, 60, round(1 - 7 / 60, 4), 48)


def test_work_counts_at_most_the_time_in_which_its_attempt_ran() -> None:
    assert share_of([attempt(0, 2, 10, 1e9)]) == (8, 10, 0.2, 0)


def test_attempts_whose_clocks_overlap_are_never_more_work_than_wall_clock() -> None:
    assert share_of([attempt(0, 0, 10, 10), attempt(0, 0, 10, 10)]) == (10, 10, 0, 0)


@pytest.mark.parametrize(("wall", "work", "share"), [(0, 0, None), (10, 4, 0.6), (10, 11, 0), (10, 0, 1)])
def test_overhead_is_a_share(wall: float, work: float, share: float | None) -> None:
    assert overhead(wall, work) == share


TIMES = st.integers(0, 1000)
ATTEMPTS = st.builds(
    lambda due, times, work: attempt(due, *sorted(times), work),
    TIMES,
    st.tuples(TIMES, TIMES),
    st.none() | st.floats(0, 2000),
)
STANDSTILLS = st.builds(lambda times: suspended(*sorted(times)), st.tuples(TIMES, TIMES))


def whole(share: WorkShare | None) -> bool:
    return share is None or (0 <= share.overhead <= 1 and 0 <= share.work <= share.wall)


@given(attempts=st.lists(ATTEMPTS, max_size=5), standstills=st.lists(STANDSTILLS, max_size=5))
def test_any_times_give_a_share_between_nothing_and_all(
    attempts: list[AttemptClock], standstills: list[Standstill]
) -> None:
    assert whole(work_share(attempts, standstills))


@given(attempts=st.lists(ATTEMPTS, min_size=1, max_size=5), standstills=st.lists(STANDSTILLS, min_size=1, max_size=5))
def test_a_pause_never_makes_the_wall_clock_longer(attempts: list[AttemptClock], standstills: list[Standstill]) -> None:
    paused, unpaused = work_share(attempts, standstills), work_share(attempts, [])
    assert paused is None or (unpaused is not None and paused.wall <= unpaused.wall)
