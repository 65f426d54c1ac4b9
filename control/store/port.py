"""What control needs of its store. Time comes from here; correctness rests on its guards alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol
from uuid import UUID

from contracts.errors import TreadleError
from contracts.leases import AttemptSignal, Claim, Heartbeat, LeaseAnswer, WorkerState
from contracts.tasks import AttemptKey, ModelSource, Phase, TaskStatus
from control.machine.commands import Order
from control.machine.machine import MachineEvent, RunState
from control.machine.task import Task


class TaskNotFound(TreadleError):
    """There is no task of this id."""

    def __init__(self, task_id: UUID) -> None:
        self.task_id = task_id
        super().__init__(f"there is no task {task_id}")


class StoreUnavailable(TreadleError):
    """The database is away; what was asked may be tried again."""


class SubmissionConflict(TreadleError):
    """The same submission id, or Idempotency-Key, was used before with another body."""

    def __init__(self, task_id: UUID) -> None:
        self.task_id = task_id
        super().__init__(f"this submission was used before, with another body, for task {task_id}")


@dataclass(frozen=True, slots=True)
class OutboxRow:
    """A message that was decided and must be published, `available_at` or later."""

    id: int
    exchange: str
    routing_key: str
    message_id: UUID
    body: bytes
    headers: dict[str, str]


@dataclass(frozen=True, slots=True)
class Loaded:
    """What a decision needs: the task, who claims its newest attempt, and whether the event was seen."""

    task: Task
    claim_id: UUID | None
    seen: bool


@dataclass(frozen=True, slots=True)
class NewTask:
    """A task to be created. `digest` is of the request's body: the same body again is the same task."""

    task: Task
    digest: str
    actor: str
    start: Change | None = None
    """The start that is asked for with it: both happen, or neither does."""


@dataclass(frozen=True, slots=True)
class Change:
    """One decided event: applied (with what follows from it) or stale (recorded, changing nothing)."""

    before: Task
    after: Task
    event: MachineEvent
    actor: str
    reason: str | None
    stale: bool
    orders: tuple[Order, ...]
    closed: RunState | None
    headers: dict[str, str]
    """Trace context, carried into the outbox rows."""
    signal: AttemptSignal | None = None


@dataclass(frozen=True, slots=True)
class Created:
    """An answer for each task that was to be created, in order, and the outbox rows of the starts."""

    answers: tuple[Task | SubmissionConflict, ...]
    new: frozenset[UUID]
    """Ids of the tasks that were not there before."""
    outbox: tuple[OutboxRow, ...]


@dataclass(frozen=True, slots=True)
class Times:
    """An ended attempt by the database's clock: when its command was due, when it was claimed, when it ended."""

    ordered_at: datetime
    claimed_at: datetime | None
    ended_at: datetime
    gpu_seconds: float
    """What its heartbeats said that it had used."""


@dataclass(frozen=True, slots=True)
class Applied:
    """Which changes were really made, and the outbox rows that came of them."""

    made: frozenset[UUID]
    """Their message ids."""
    outbox: tuple[OutboxRow, ...]
    ended: Mapping[UUID, Times]
    """By message id: the attempt that a change has closed."""


@dataclass(frozen=True, slots=True)
class Run:
    """One attempt: a row of `phase_runs`."""

    key: AttemptKey
    state: RunState
    worker_id: str | None
    claim_id: UUID | None
    message: str | None
    event: dict[str, Any] | None
    """The event that ended it, as on the wire."""
    input_dataset_id: str | None
    fraction: float | None
    created_at: datetime
    claimed_at: datetime | None
    lease_expires_at: datetime | None
    ended_at: datetime | None
    checkpoint: str | None = None
    """Prefix of the newest one that its heartbeats named: complete in the object store."""
    gpu_seconds: float = 0.0
    """What its heartbeats said that it had used."""


@dataclass(frozen=True, slots=True)
class Pause:
    """Who paused a task, when and why."""

    at: datetime
    actor: str
    reason: str | None


@dataclass(frozen=True, slots=True)
class Standing:
    """A task's newest attempt, the one before it, and who could take it, at one moment of the store's clock."""

    now: datetime
    run: Run
    due_at: datetime
    """When its command was last due; in the future while it waits for that."""
    before: Run | None
    ttl: float
    """Seconds of the attempt's lease."""
    workers: int
    """Workers of the attempt's phase that were heard of lately, the slots that they have, and those that are free."""
    slots: int
    free: int
    pause: Pause | None
    """The newest one, where the task is suspended."""


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
class Stored:
    """A task with the times that only the store knows."""

    task: Task
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class Dataset:
    """004's Dataset."""

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
    """Which tasks to list; None means any."""

    status: TaskStatus | None = None
    user_id: int | None = None
    mode: str | None = None


class Store(Protocol):
    """Every method is one transaction. Any of them may raise StoreUnavailable."""

    async def create(self, new: Sequence[NewTask]) -> Created:
        """Create tasks, each with its history row and its start where there is one; one answer each, in order.

        A task id that exists answers the task that is there where the digest is the same.
        """
        ...

    async def load(self, wanted: Sequence[tuple[UUID, UUID]]) -> list[Loaded | None]:
        """(task id, message id) to what a decision needs, in order; None: no such task. One statement."""
        ...

    async def apply(self, changes: Sequence[Change], published: Sequence[int] = ()) -> Applied:
        """Make those changes whose task still has the version that was read, in task-id order. One statement.

        At most one change a task. With each: history, inbox, outbox, phase runs, dataset and model rows.
        `published` are outbox ids that were confirmed, and are forgotten in the same transaction.
        """
        ...

    async def take_outbox(self, limit: int, hold: float) -> list[OutboxRow]:
        """Due rows that nobody holds, held by the caller for `hold` seconds: those of crashed or slow relays."""
        ...

    async def forget_outbox(self, ids: Sequence[int]) -> None:
        """Delete rows whose publication was confirmed."""
        ...

    async def lease(
        self, worker: WorkerState, claims: Sequence[Claim], beats: Sequence[Heartbeat]
    ) -> list[LeaseAnswer]:
        """Decide claims and renew leases, and note that the worker is there. One statement. Idempotent by claim id."""
        ...

    async def expired(self, limit: int) -> list[Run]:
        """Running attempts whose lease has ended, by the store's clock; those silent longest first."""
        ...

    async def unclaimed(self, phase: Phase, older_than: float, limit: int) -> list[Run]:
        """Live attempts at this phase, of tasks not suspended, that nobody claimed and no outbox row will publish."""
        ...

    async def looping(self, older_than: float, limit: int) -> list[UUID]:
        """Tasks LOOPING for longer than `older_than` seconds that no outbox row will turn."""
        ...

    async def enqueue(self, orders: Sequence[tuple[UUID, Order]]) -> list[OutboxRow]:
        """Put the orders of these tasks into the outbox again, under their own message ids."""
        ...

    async def lead(self, role: str) -> bool:
        """Whether this control process is (or just became) the leader for `role`; held while it lives."""
        ...

    async def task(self, task_id: UUID) -> Stored:
        """One task. Raises TaskNotFound."""
        ...

    async def tasks(self, where: TaskFilter, page: int, size: int) -> tuple[list[Stored], int]:
        """A page (from 1) of tasks, newest first, and how many there are in all."""
        ...

    async def runs(self, *task_ids: UUID) -> list[Run]:
        """All attempts of these tasks, oldest first."""
        ...

    async def history(self, task_id: UUID, after: int = 0, limit: int = 1000) -> list[HistoryRow]:
        """History rows with an id above `after`, oldest first."""
        ...

    async def silence(self) -> dict[Phase, float]:
        """Seconds since the last heartbeat of the running attempt that was silent longest, by phase."""
        ...

    async def workers(self, within: float) -> list[WorkerState]:
        """Workers heard of in the last `within` seconds."""
        ...

    async def standing(self, task_id: UUID, within: float) -> Standing | None:
        """What a task waits for; `within` seconds a worker must have been heard of. None: no attempt. One statement."""
        ...

    async def counts(self) -> dict[TaskStatus, int]:
        """How many tasks stand where."""
        ...

    async def outbox_depth(self) -> tuple[int, float]:
        """Rows waiting, and the age of the oldest due one in seconds."""
        ...

    async def add_dataset(self, dataset: Dataset) -> None:
        """Register a dataset; its `created_at` is replaced by the store's clock."""
        ...

    async def dataset(self, dataset_id: str) -> Dataset | None:
        """One dataset."""
        ...

    async def find_datasets(self, dataset_ids: Sequence[str]) -> dict[str, Dataset]:
        """Those of these datasets that there are, by their ids. One statement."""
        ...

    async def datasets(self, user_id: int) -> list[Dataset]:
        """A user's datasets, newest first."""
        ...

    async def model(self, task_id: UUID, iteration: int | None) -> ModelSource | None:
        """The model of an iteration; without one, of the best iteration, else of the newest that trained."""
        ...

    async def uncleaned(self, older_than: float, limit: int = 10_000) -> list[Run]:
        """Attempts that ended `older_than` seconds ago, not marked yet, that may have left something behind.

        Oldest first. An optimised dataset is a leftover at the earliest when its task ended as long ago.
        """
        ...

    async def named(self) -> frozenset[str]:
        """Every prefix of an attempt that a task was given, or that a registered model is made of."""
        ...

    async def mark_cleaned(self, keys: Sequence[AttemptKey]) -> None:
        """Nothing of these attempts will have to go any more."""
        ...

    async def forget_datasets(self, prefixes: Sequence[str]) -> None:
        """Take the optimised datasets that lie there off the register, except those that a task was given."""
        ...

    async def old_inbox(self, older_than: float) -> int:
        """How many messages of ended tasks were handled more than `older_than` seconds ago."""
        ...

    async def forget_inbox(self, older_than: float, limit: int) -> int:
        """Forget at most `limit` of them; how many were forgotten."""
        ...

    async def now(self) -> datetime:
        """The store's clock."""
        ...

    async def close(self) -> None:
        """Let go of connections."""
        ...
