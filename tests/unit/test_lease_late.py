from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from contracts.tasks import AttemptKey, Phase
from control.gateway.waiting import lease_late
from control.machine.machine import AttemptState
from control.store.values import AttemptRecord

LAST_HEARTBEAT = datetime(2026, 1, 1, tzinfo=UTC)
TTL = 15.0


def running_attempt(**more: Any) -> AttemptRecord:
    """A running attempt whose last heartbeat arrived at LAST_HEARTBEAT."""
    fields = {
        "key": AttemptKey(task_id=uuid4(), iteration=1, phase=Phase.OPTIMIZE, attempt=1),
        "state": AttemptState.RUNNING,
        "worker_id": "worker-1",
        "claim_id": uuid4(),
        "message": None,
        "event": None,
        "input_dataset_id": None,
        "fraction": None,
        "created_at": LAST_HEARTBEAT,
        "due_at": LAST_HEARTBEAT,
        "claimed_at": LAST_HEARTBEAT,
        "lease_expires_at": LAST_HEARTBEAT + timedelta(seconds=TTL),
        "ended_at": None,
    }
    return AttemptRecord(**{**fields, **more})


@pytest.mark.parametrize(("silent", "is_suspect"), [(0.0, False), (7.4, False), (7.6, True), (16.0, True)])
def test_a_worker_is_suspect_once_it_has_been_silent_for_half_its_lease(silent: float, is_suspect: bool) -> None:
    assert lease_late(running_attempt(), TTL, LAST_HEARTBEAT + timedelta(seconds=silent)) is is_suspect


@pytest.mark.parametrize("state", [state for state in AttemptState if state is not AttemptState.RUNNING])
def test_only_a_running_attempt_is_suspect(state: AttemptState) -> None:
    assert not lease_late(running_attempt(state=state), TTL, LAST_HEARTBEAT + timedelta(seconds=60))
