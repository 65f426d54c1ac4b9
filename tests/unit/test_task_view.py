"""How a task that waits reads in a terminal."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from cli.tasks.view import waiting_text
from contracts.waiting import WaitingReason, WaitingView

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)


def test_since_when_is_said_beside_how_long_that_is() -> None:
    view = WaitingView(reason=WaitingReason.NO_WORKER, sentence="no trainer is there", since=NOW - timedelta(minutes=5))
    local = (NOW - timedelta(minutes=5)).astimezone()
    assert waiting_text(view, NOW).plain == f"no trainer is there\nsince {local:%H:%M:%S} (5m0s)"


def test_until_when_is_said_beside_how_long_that_takes() -> None:
    view = WaitingView(
        reason=WaitingReason.SCHEDULED, sentence="its start is scheduled", until=NOW + timedelta(hours=2)
    )
    local = (NOW + timedelta(hours=2)).astimezone()
    assert waiting_text(view, NOW).plain == f"its start is scheduled\nuntil {local:%H:%M:%S} (in 2h0m)"
