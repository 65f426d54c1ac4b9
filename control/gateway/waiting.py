"""Why a task does not run right now, told from what the store knows of it. Pure."""

from __future__ import annotations

from datetime import datetime, timedelta

from contracts.tasks import FailureKind, TaskStatus
from contracts.waiting import WaitingReason, WaitingView
from control.machine.machine import RunState
from control.machine.task import Task
from control.store.port import Run, Standing


def waiting(task: Task, standing: Standing | None) -> WaitingView | None:
    """What `task` waits for; None while a worker runs it, and once it has ended."""
    match task.status:
        case TaskStatus.PENDING:
            return _view(WaitingReason.NOT_STARTED, "nobody has started it yet")
        case TaskStatus.LOOPING:
            return _view(WaitingReason.ON_ITS_WAY, "its next iteration is on its way")
        case TaskStatus.SUSPENDED:
            return _paused(task, standing)
        case TaskStatus.FAILED if task.reason == FailureKind.DEAD_LETTERED:
            sentence = "its command is among the dead letters: retry the task once what is wrong is mended"
            return _view(WaitingReason.DEAD_LETTERED, sentence)
        case TaskStatus.COMPLETED | TaskStatus.FAILED | TaskStatus.CANCELLED:
            return None
    if standing is None or standing.run.key != task.key:
        return None  # it went on between two reads
    return _dispatched(standing) if standing.run.state is RunState.DISPATCHED else _running(standing)


def _paused(task: Task, standing: Standing | None) -> WaitingView | None:
    if standing is None or standing.pause is None:
        return None  # it went on between two reads
    pause, run = standing.pause, standing.run
    said = f"paused by {pause.actor}" + (f": {pause.reason}" if pause.reason else "")
    if run.state is RunState.RUNNING:
        said += "; its attempt is writing a checkpoint" if task.pausing else "; its attempt is left to end"
    if run.state in {RunState.FAILED, RunState.LOST}:
        said += f"; meanwhile {_ended(run)}"
    return _view(WaitingReason.PAUSED, said, since=pause.at)


def _dispatched(standing: Standing) -> WaitingView:
    """Ordered, and not claimed: not due yet, or nobody took it."""
    due, worker = standing.due_at, standing.run.key.phase.worker
    if due > standing.now:
        return _not_due(standing)
    if standing.workers == 0:
        sentence = f"no {worker} is there; start one with `treadle worker {worker}`"
        return _view(WaitingReason.NO_WORKER, sentence, since=due)
    if standing.free == 0:
        sentence = f"no {worker} is free: all of {standing.workers} are busy, with {standing.slots} slots"
        return _view(WaitingReason.NONE_FREE, sentence, since=due)
    return _view(WaitingReason.ON_ITS_WAY, f"its command is on its way to the {worker}s", since=due)


def _not_due(standing: Standing) -> WaitingView:
    due, before = standing.due_at, standing.before
    if before is None:
        return _view(WaitingReason.SCHEDULED, "its start is scheduled", until=due)
    follows = f"{_ended(before)}, and attempt {standing.run.key.attempt} follows"
    if _failure(before) == FailureKind.DEAD_LETTERED:
        sentence = f"its command is among the dead letters: {follows}"
        return _view(WaitingReason.DEAD_LETTERED, sentence, until=due)
    return _view(WaitingReason.BACKING_OFF, f"backing off: {follows}", until=due)


def _running(standing: Standing) -> WaitingView | None:
    """Nothing, unless its worker has been silent for too long."""
    run, now = standing.run, standing.now
    if run.lease_expires_at is None or not suspect(run, standing.ttl, now):
        return None
    heard = run.lease_expires_at - timedelta(seconds=standing.ttl)
    silent = (now - heard).total_seconds()
    sentence = f"no heartbeat from {run.worker_id} for {silent:.0f} s; unless one comes, the next attempt is issued"
    return _view(WaitingReason.LEASE_SUSPECT, sentence, since=heard, until=run.lease_expires_at)


def _ended(run: Run) -> str:
    """How an attempt failed, e.g. `attempt 1 failed (bad_input): row 7 has no prompt`."""
    return f"attempt {run.key.attempt} failed ({_failure(run)})" + (f": {run.message}" if run.message else "")


def _failure(run: Run) -> str:
    return str((run.event or {}).get("failure", FailureKind.LEASE_LOST))


def suspect(run: Run, ttl: float, now: datetime) -> bool:
    """Whether the holder of a running attempt has been silent for more than half of its lease of `ttl` seconds.

    `now` is by the store's clock. Heartbeats come every third of the lease, so that more than one has gone missing.
    """
    if run.state is not RunState.RUNNING or run.lease_expires_at is None:
        return False
    return run.lease_expires_at - now < timedelta(seconds=ttl / 2)


def _view(
    reason: WaitingReason, sentence: str, *, since: datetime | None = None, until: datetime | None = None
) -> WaitingView:
    return WaitingView(reason=reason, sentence=sentence, since=since, until=until)
