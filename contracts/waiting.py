"""Why a task does not run now, as an HTTP response."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from contracts.http import NoticeView, TaskView, View, WorkView


class WaitingReason(StrEnum):
    """Why a task does not run now."""

    NOT_STARTED = "not_started"
    SCHEDULED = "scheduled"
    BACKING_OFF = "backing_off"
    PAUSED = "paused"
    ON_ITS_WAY = "on_its_way"
    NO_WORKER = "no_worker"
    NO_FREE_SLOT = "no_free_slot"
    LEASE_LATE = "lease_late"
    DEAD_LETTERED = "dead_lettered"
    NOT_ROUTED = "not_routed"
    WORKERS_UNFIT = "workers_unfit"


class WaitingView(View):
    """Why a task does not run: a reason, a sentence for people, and times if they are known."""

    reason: WaitingReason
    sentence: str
    since: datetime | None = None
    until: datetime | None = None


class TaskDetail(TaskView, WorkView):
    """Response of `GET /api/tasks/{id}`."""

    waiting: WaitingView | None
    """None while the program runs, and after the task has ended."""
    notices: tuple[NoticeView, ...] = ()
    """What the completed phases did with the rows, of the first iteration and of the newest ones."""
