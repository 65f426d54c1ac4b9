"""The trace of one iteration, as an HTTP response: what a collector receives as spans, read from the database."""

from __future__ import annotations

from datetime import datetime
from typing import Literal
from uuid import UUID

from contracts.http import View, WorkView
from contracts.tasks import Phase, TaskStatus


class PhaseSpan(View):
    """The span of one attempt at a phase; times that have not come yet are None."""

    span_id: str
    """16 hexadecimal digits, as in the exported span."""
    parent_span_id: str
    name: str
    """The name of the exported span, such as `phase train`."""
    phase: Phase
    attempt: int
    status: Literal["dispatched", "running", "completed", "failed", "paused", "lost", "fenced", "cancelled"]
    worker_id: str | None
    failure: str | None
    """The kind of failure, such as `out_of_memory`."""
    message: str | None
    created_at: datetime
    due_at: datetime
    """When its command was or will be due: after a delayed start or a backoff this is later than `created_at`."""
    started_at: datetime | None
    completed_at: datetime | None
    work_seconds: float | None
    """As in WorkView; None while the attempt runs, and if it ended without a report."""


class StandstillView(View):
    """A time in which the task was SUSPENDED or FAILED; `ended_at` is None while it lasts."""

    status: TaskStatus
    began_at: datetime
    ended_at: datetime | None


class TraceView(WorkView):
    """Response of `GET /api/tasks/{id}/iterations/{iteration}/trace`. All times come from the database's clock."""

    task_id: UUID
    task_name: str
    status: TaskStatus
    """The present status of the task, which may be in a later iteration."""
    iteration: int
    iterations: int
    """The number of the task's newest iteration."""
    trace_id: str
    """32 hexadecimal digits; a collector has the trace under this id."""
    span_id: str
    """The id of the iteration's own span, the parent of all `spans`."""
    now: datetime
    began_at: datetime
    """When its first command was due."""
    ended_at: datetime | None
    """None while the iteration is in progress."""
    spans: tuple[PhaseSpan, ...]
    """Oldest first."""
    standstills: tuple[StandstillView, ...]
    """Those that touch the iteration, oldest first."""
