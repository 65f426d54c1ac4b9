"""Why a task does not run right now, as an answer over HTTP."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from contracts.http import TaskView, View


class WaitingReason(StrEnum):
    """Why a task does not run right now."""

    NOT_STARTED = "not_started"
    SCHEDULED = "scheduled"
    BACKING_OFF = "backing_off"
    PAUSED = "paused"
    ON_ITS_WAY = "on_its_way"
    NO_WORKER = "no_worker"
    NONE_FREE = "none_free"
    LEASE_SUSPECT = "lease_suspect"
    DEAD_LETTERED = "dead_lettered"


class WaitingView(View):
    """What a task waits for, as a reason, as a sentence, and as times where there are any."""

    reason: WaitingReason
    sentence: str
    since: datetime | None = None
    until: datetime | None = None


class TaskDetail(TaskView):
    """Answer of `GET /api/tasks/{id}`."""

    waiting: WaitingView | None
    """None while its program runs, and once it has ended."""
