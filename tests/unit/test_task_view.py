"""How the terminal shows why a task waits."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from cli.tasks.view import waiting_text
from contracts.waiting import WaitingReason, WaitingView

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)


def test_the_start_of_the_wait_is_shown_with_its_length() -> None:
    view = WaitingView(reason=WaitingReason.NO_WORKER, sentence="no trainer is there", since=NOW - timedelta(minutes=5))
    local = (NOW - timedelta(minutes=5)).astimezone()
    assert waiting_text(view, NOW).plain == f"no trainer is there\nsince {local:%H:%M:%S} (5m0s)"


def test_the_end_of_the_wait_is_shown_with_the_time_left() -> None:
    view = WaitingView(
        reason=WaitingReason.SCHEDULED, sentence="its start is scheduled", until=NOW + timedelta(hours=2)
    )
    local = (NOW + timedelta(hours=2)).astimezone()
    assert waiting_text(view, NOW).plain == f"its start is scheduled\nuntil {local:%H:%M:%S} (in 2h0m)"
