from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from contracts.tasks import AttemptKey, Phase
from control.gateway.waiting import suspect
from control.machine.machine import RunState
from control.store.port import Run

HEARD = datetime(2026, 1, 1, tzinfo=UTC)
TTL = 15.0


def a_run(**more: Any) -> Run:
    """A running attempt whose last heartbeat came at HEARD."""
    given = {
        "key": AttemptKey(task_id=uuid4(), iteration=1, phase=Phase.OPTIMIZE, attempt=1),
        "state": RunState.RUNNING,
        "worker_id": "worker-1",
        "claim_id": uuid4(),
        "message": None,
        "event": None,
        "input_dataset_id": None,
        "fraction": None,
        "created_at": HEARD,
        "claimed_at": HEARD,
        "lease_expires_at": HEARD + timedelta(seconds=TTL),
        "ended_at": None,
    }
    return Run(**{**given, **more})


@pytest.mark.parametrize(("silent", "is_suspect"), [(0.0, False), (7.4, False), (7.6, True), (16.0, True)])
def test_a_worker_is_suspect_once_it_has_been_silent_for_half_its_lease(silent: float, is_suspect: bool) -> None:
    assert suspect(a_run(), TTL, HEARD + timedelta(seconds=silent)) is is_suspect


@pytest.mark.parametrize("state", [state for state in RunState if state is not RunState.RUNNING])
def test_nobody_is_suspect_who_runs_nothing(state: RunState) -> None:
    assert not suspect(a_run(state=state), TTL, HEARD + timedelta(seconds=60))
