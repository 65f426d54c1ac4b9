"""Explains from stored data why a task does not run now. Pure."""

from __future__ import annotations

from datetime import datetime, timedelta

from contracts.tasks import FailureKind, TaskStatus
from contracts.waiting import WaitingReason, WaitingView
from control.machine.machine import AttemptState
from control.machine.task import Task
from control.store.values import AttemptRecord, WaitContext


def waiting(task: Task, wait_context: WaitContext | None) -> WaitingView | None:
    """Why `task` does not run; None while a worker runs it, and once it has ended."""
    match task.status:
        case TaskStatus.PENDING:
            sentence = f"it has not been started; start it with `treadle start {task.task_id}`"
            return _view(WaitingReason.NOT_STARTED, sentence)
        case TaskStatus.LOOPING:
            not_routed = _not_routed(wait_context, "the start of its next iteration")
            return not_routed or _view(WaitingReason.ON_ITS_WAY, "its next iteration is about to start")
        case TaskStatus.SUSPENDED:
            return _paused(task, wait_context)
        case TaskStatus.FAILED if task.reason == FailureKind.DEAD_LETTERED:
            sentence = (
                "its command became a dead letter; see the reason with `treadle dlq list`, "
                f"fix the cause, then retry the task with `treadle retry {task.task_id}`"
            )
            return _view(WaitingReason.DEAD_LETTERED, sentence)
        case TaskStatus.COMPLETED | TaskStatus.FAILED | TaskStatus.CANCELLED:
            return None
    if wait_context is None or wait_context.attempt.key != task.key:
        return None  # the task changed between two reads
    if wait_context.attempt.state is not AttemptState.DISPATCHED:
        return _running(wait_context)
    return _not_routed(wait_context, "its command") or _dispatched(wait_context)


def _not_routed(wait_context: WaitContext | None, message: str) -> WaitingView | None:
    """The broker should have taken a message of the task, and has not; None if it has."""
    if wait_context is None or wait_context.unsent_since is None:
        return None
    seconds = (wait_context.now - wait_context.unsent_since).total_seconds()
    sentence = (
        f"the broker has not taken {message} for {seconds:.0f} s: a queue or a binding is missing, or the broker is "
        "away; see which with `treadle doctor`"
    )
    return _view(WaitingReason.NOT_ROUTED, sentence, since=wait_context.unsent_since)


def _paused(task: Task, wait_context: WaitContext | None) -> WaitingView | None:
    if wait_context is None or wait_context.pause is None:
        return None  # the task changed between two reads
    pause, attempt = wait_context.pause, wait_context.attempt
    sentence = f"paused by {pause.actor}" + (f": {pause.reason}" if pause.reason else "")
    if attempt.state is AttemptState.RUNNING:
        sentence += "; its attempt is writing a checkpoint" if task.pausing else "; its attempt runs to its end"
    if attempt.state in {AttemptState.FAILED, AttemptState.LOST}:
        sentence += f"; meanwhile {_failed(attempt)}"
    return _view(WaitingReason.PAUSED, sentence, since=pause.at)


def _dispatched(wait_context: WaitContext) -> WaitingView:
    """The command is not due yet, or no worker has claimed it."""
    due, worker = wait_context.due_at, wait_context.attempt.key.phase.worker
    if due > wait_context.now:
        return _not_due(wait_context)
    unfit = wait_context.unfit
    if wait_context.workers == 0 and unfit is not None:
        more = f" ({unfit.number - 1} more are unfit too; see `treadle doctor`)" if unfit.number > 1 else ""
        sentence = f"no {worker} can take it: worker {unfit.worker_id} {unfit.reason}{more}"
        return _view(WaitingReason.WORKERS_UNFIT, sentence, since=due)
    if wait_context.workers == 0:
        sentence = f"no {worker} is connected; start one with `treadle worker {worker}`"
        return _view(WaitingReason.NO_WORKER, sentence, since=due)
    if wait_context.free == 0:
        sentence = f"no {worker} has a free slot (workers: {wait_context.workers}, slots: {wait_context.slots})"
        if unfit is not None:
            sentence += f"; unfit workers: {unfit.number}, such as {unfit.worker_id}, which {unfit.reason}"
        return _view(WaitingReason.NO_FREE_SLOT, sentence, since=due)
    return _view(WaitingReason.ON_ITS_WAY, f"its command is about to be claimed by a free {worker}", since=due)


def _not_due(wait_context: WaitContext) -> WaitingView:
    due, before = wait_context.due_at, wait_context.before
    if before is None:
        return _view(WaitingReason.SCHEDULED, "its start is scheduled", until=due)
    sentence = f"{_failed(before)}; attempt {wait_context.attempt.key.attempt} starts after a delay"
    if _failure(before) == FailureKind.DEAD_LETTERED:
        sentence += "; see why its command became a dead letter with `treadle dlq list`"
        return _view(WaitingReason.DEAD_LETTERED, sentence, until=due)
    return _view(WaitingReason.BACKING_OFF, sentence, until=due)


def _running(wait_context: WaitContext) -> WaitingView | None:
    """None, unless its heartbeats are late."""
    attempt, now = wait_context.attempt, wait_context.now
    if attempt.lease_expires_at is None or not lease_late(attempt, wait_context.ttl, now):
        return None
    last_heartbeat = attempt.lease_expires_at - timedelta(seconds=wait_context.ttl)
    silence = (now - last_heartbeat).total_seconds()
    sentence = (
        f"no heartbeat from {attempt.worker_id} for {silence:.0f} s; "
        "if none arrives before the lease ends, the attempt is lost and the next one starts"
    )
    return _view(WaitingReason.LEASE_LATE, sentence, since=last_heartbeat, until=attempt.lease_expires_at)


def _failed(attempt: AttemptRecord) -> str:
    """How an attempt failed, such as `attempt 1 failed (bad_input): row 7 has no prompt`."""
    return f"attempt {attempt.key.attempt} failed ({_failure(attempt)})" + (
        f": {attempt.message}" if attempt.message else ""
    )


def _failure(attempt: AttemptRecord) -> str:
    return str((attempt.event or {}).get("failure", FailureKind.LEASE_LOST))


def lease_late(attempt: AttemptRecord, ttl: float, now: datetime) -> bool:
    """Whether the last heartbeat of a running attempt is older than half of its lease of `ttl` seconds.

    `now` is the time of the store's clock. Heartbeats are due every third of the lease, so at least one is missing.
    """
    if attempt.state is not AttemptState.RUNNING or attempt.lease_expires_at is None:
        return False
    return attempt.lease_expires_at - now < timedelta(seconds=ttl / 2)


def _view(
    reason: WaitingReason, sentence: str, *, since: datetime | None = None, until: datetime | None = None
) -> WaitingView:
    return WaitingView(reason=reason, sentence=sentence, since=since, until=until)
