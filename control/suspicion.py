"""When a silent worker becomes suspect: sooner than its lease is lost, so that people hear of it first."""

from __future__ import annotations

from datetime import datetime, timedelta

from control.machine import RunState
from control.store.port import Run


def suspect(run: Run, ttl: float, now: datetime) -> bool:
    """Whether the holder of a running attempt has been silent for more than half of its lease of `ttl` seconds.

    `now` is by the store's clock. Heartbeats come every third of the lease, so that more than one has gone missing.
    """
    if run.state is not RunState.RUNNING or run.lease_expires_at is None:
        return False
    return run.lease_expires_at - now < timedelta(seconds=ttl / 2)
