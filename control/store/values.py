"""The values that control and its store exchange."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from contracts.errors import TreadleError
from contracts.leases import AttemptSignal
from contracts.tasks import AttemptKey, TaskStatus
from control.machine.commands import OutboxMessage
from control.machine.machine import AttemptState, MachineEvent
from control.machine.task import Task

WORKER_WINDOW = 60.0
"""Seconds without a heartbeat after which a worker is not counted."""
MAX_STALE = 100
"""Maximum stale events in the history of one task; further ones are only counted."""
MAX_WORKERS = 1000
"""Workers that are listed at most."""
UNSENT_AFTER = 3.0
"""Seconds after which the broker should have confirmed a message: it is published at once, or when its lock expires."""
LARGEST_ID = 2**63 - 1
"""The largest id of a row: a bigint."""


class SubmissionConflict(TreadleError):
    """The submission id, or Idempotency-Key, was used before with another body."""

    def __init__(self, task_id: UUID) -> None:
        self.task_id = task_id
        super().__init__(
            f"this submission id (Idempotency-Key) was used before with another body, for task {task_id}; use a new one"
        )


@dataclass(frozen=True, slots=True)
class OutboxRow:
    """A message to publish; `id` is 0 until the row is stored, `delay` is in seconds."""

    task_id: UUID
    message_id: UUID
    exchange: str
    routing_key: str
    body: bytes
    headers: dict[str, str]
    delay: float = 0.0
    id: int = 0


@dataclass(frozen=True, slots=True)
class StoredTask:
    """A task with the times that the store sets."""

    task: Task
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class Loaded:
    """What a decision needs: the task, the claim of its active attempt, and whether the event was handled before."""

    stored: StoredTask
    claim_id: UUID | None
    duplicate: bool

    @property
    def task(self) -> Task:
        """The task without its times."""
        return self.stored.task


@dataclass(frozen=True, slots=True)
class NewTask:
    """A task to create; `digest` is a hash of the request's body and identifies a repeated request."""

    task: Task
    digest: str
    actor: str
    start: Change | None = None
    """The start that is stored together with the task, or None if the task stays PENDING."""


@dataclass(frozen=True, slots=True)
class Change:
    """One decided event: applied, or stale, which is recorded and changes nothing."""

    before: Task
    after: Task
    event: MachineEvent
    actor: str
    reason: str | None
    stale: bool
    messages: tuple[OutboxMessage, ...]
    ended_as: AttemptState | None
    headers: dict[str, str]
    """Trace context for the outbox rows."""
    signal: AttemptSignal | None = None


@dataclass(frozen=True, slots=True)
class Created:
    """One answer for each task to create, in order, and the outbox rows of the starts that are due now."""

    answers: tuple[StoredTask | SubmissionConflict, ...]
    new: frozenset[UUID]
    """Ids of the tasks that did not exist before."""
    outbox: tuple[OutboxRow, ...]


@dataclass(frozen=True, slots=True)
class AttemptTimes:
    """The times of an ended attempt by the store's clock; `due_at` is when its command was due."""

    due_at: datetime
    claimed_at: datetime | None
    ended_at: datetime
    gpu_seconds: float
    """As its heartbeats reported."""


@dataclass(frozen=True, slots=True)
class Applied:
    """The changes that were applied, and their outbox rows that are due now."""

    tasks: Mapping[UUID, StoredTask]
    """Message id to the task after the change."""
    outbox: tuple[OutboxRow, ...]
    ended: Mapping[UUID, AttemptTimes]
    """Message id to the attempt that the change ended."""
    dropped: frozenset[UUID] = frozenset()
    """Message ids of stale events that were not recorded, because the task has MAX_STALE of them."""


@dataclass(frozen=True, slots=True)
class AttemptRecord:
    """One attempt: a row of `attempts`."""

    key: AttemptKey
    state: AttemptState
    worker_id: str | None
    claim_id: UUID | None
    message: str | None
    event: dict[str, Any] | None
    """The event that ended it, as in the body of its message."""
    input_dataset_id: str | None
    fraction: float | None
    created_at: datetime
    claimed_at: datetime | None
    lease_expires_at: datetime | None
    ended_at: datetime | None
    checkpoint: str | None = None
    """Prefix of the newest checkpoint that its heartbeats named; complete in the object store."""
    gpu_seconds: float = 0.0
    """As its heartbeats reported."""
    due_at: datetime = field(kw_only=True)
    """When its command was or will be due; the time of a resume, if that sent the command again."""


@dataclass(frozen=True, slots=True)
class AttemptClock:
    """The times of an ended attempt; `work_seconds` is None if it ended without a report of its work."""

    due_at: datetime
    claimed_at: datetime | None
    ended_at: datetime
    work_seconds: float | None


@dataclass(frozen=True, slots=True)
class Standstill:
    """A time in which a task was SUSPENDED or FAILED; `ended_at` is None while it lasts."""

    status: TaskStatus
    began_at: datetime
    ended_at: datetime | None


@dataclass(frozen=True, slots=True)
class TaskClock:
    """All times from which the overhead of a task is computed, read at one moment."""

    attempts: tuple[AttemptClock, ...] = ()
    """Those that have ended, oldest first."""
    standstills: tuple[Standstill, ...] = ()
    """Oldest first; those that follow one another at once are listed one by one."""


@dataclass(frozen=True, slots=True)
class Pause:
    """Who paused a task, when and why."""

    at: datetime
    actor: str
    reason: str | None


@dataclass(frozen=True, slots=True)
class Unfit:
    """Workers that take no commands: how many, and the first of them by name, with its reason."""

    number: int
    worker_id: str
    reason: str


@dataclass(frozen=True, slots=True)
class WaitContext:
    """A task's two newest attempts and the workers of that phase, read at one moment of the store's clock."""

    now: datetime
    attempt: AttemptRecord
    due_at: datetime
    """When the attempt's command was or will be due."""
    before: AttemptRecord | None
    ttl: float
    """Length of the attempt's lease in seconds."""
    workers: int
    """Workers of the attempt's phase that were seen lately and are fit; `slots` and `free` count their slots."""
    slots: int
    free: int
    pause: Pause | None
    """The newest pause; None if the task is not suspended."""
    unfit: Unfit | None = None
    """The unfit workers of the phase that were seen lately."""
    unsent_since: datetime | None = None
    """When the attempt's command or the next iteration was due, if the broker has not taken it UNSENT_AFTER later."""


@dataclass(frozen=True, slots=True)
class HistoryRow:
    """One row of the append-only history."""

    id: int
    task_id: UUID
    version: int | None
    kind: str
    outcome: str
    status: TaskStatus
    actor: str
    reason: str | None
    event: dict[str, Any]
    at: datetime


@dataclass(frozen=True, slots=True)
class Dataset:
    """A registered dataset: an upload of a user or an optimizer's output; `file_size` is in bytes."""

    dataset_id: str
    name: str
    storage_path: str
    file_size: int
    sample_count: int | None
    dataset_type: str
    domain: str | None
    user_id: int
    is_optimized: bool
    source_dataset_id: str | None
    created_at: datetime


@dataclass(frozen=True, slots=True)
class TaskFilter:
    """Which tasks to list; None matches any."""

    status: TaskStatus | None = None
    user_id: int | None = None
    mode: str | None = None
