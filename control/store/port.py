"""The port of control's store. All times come from its clock, and its checks alone keep the data correct."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol
from uuid import UUID

from contracts.errors import PartUnavailable, TreadleError
from contracts.leases import Claim, Heartbeat, LeaseAnswer, WorkerState
from contracts.tasks import AttemptKey, ModelSource, Phase, TaskStatus
from control.machine.commands import OutboxMessage
from control.store.values import (
    Applied,
    AttemptRecord,
    Change,
    Created,
    Dataset,
    HistoryRow,
    Loaded,
    NewTask,
    OutboxRow,
    StoredTask,
    TaskClock,
    TaskFilter,
    WaitContext,
)


class TaskNotFound(TreadleError):
    """There is no task with this id."""

    def __init__(self, task_id: UUID) -> None:
        self.task_id = task_id
        super().__init__(f"there is no task {task_id}")


class StoreUnavailable(PartUnavailable):
    """The database cannot be reached; the caller may retry."""


class Store(Protocol):
    """The store of control. Every write is one transaction. Every method may raise StoreUnavailable."""

    async def create(self, new: Sequence[NewTask]) -> Created:
        """Create tasks, each with its history row and its start if it has one; one answer each, in order.

        The answer for an existing task id is that task if the digest is the same, else a SubmissionConflict.
        """
        ...

    async def load(self, wanted: Sequence[tuple[UUID, UUID]]) -> list[Loaded | None]:
        """What a decision needs for each (task id, message id), in order; None without such a task. One statement."""
        ...

    async def apply(self, changes: Sequence[Change], published: Sequence[int] = ()) -> Applied:
        """Write those changes whose task still has the version that was read, in task-id order. One statement.

        At most one change for each task. It also writes history, inbox, outbox, attempt, dataset and model rows.
        The stale events of a task after the first MAX_STALE write nothing.
        `published` are ids of confirmed outbox rows, which are deleted in the same transaction.
        """
        ...

    async def lock_outbox(self, limit: int, lock_seconds: float) -> list[OutboxRow]:
        """Lock unlocked due rows, those of crashed or slow relays, for `lock_seconds` seconds, and return them."""
        ...

    async def delete_outbox(self, ids: Sequence[int]) -> None:
        """Delete rows that the broker has confirmed."""
        ...

    async def lease(
        self, worker: WorkerState, claims: Sequence[Claim], heartbeats: Sequence[Heartbeat]
    ) -> list[LeaseAnswer]:
        """Decide claims, renew leases and record the worker's state. One statement. Idempotent by claim id.

        A checkpoint in a heartbeat is stored only if it is one of the attempt's own.
        """
        ...

    async def expired(self, limit: int) -> list[AttemptRecord]:
        """Running attempts whose lease has expired by the store's clock; the lease that expired first comes first."""
        ...

    async def unclaimed(self, phase: Phase, older_than: float, limit: int) -> list[AttemptRecord]:
        """Dispatched attempts at this phase, due for `older_than` seconds, that no outbox row will publish.

        Attempts of suspended tasks are left out.
        """
        ...

    async def looping(self, older_than: float, limit: int) -> list[UUID]:
        """Tasks LOOPING for `older_than` seconds without an outbox row that starts the next iteration."""
        ...

    async def enqueue(self, messages: Sequence[tuple[UUID, OutboxMessage]]) -> list[OutboxRow]:
        """Put (task id, message) into the outbox again under the same message ids; return the rows that are due now."""
        ...

    async def try_lead(self, role: str) -> bool:
        """Whether this control process is the leader for `role`; it becomes the leader if no other process is."""
        ...

    async def task(self, task_id: UUID) -> StoredTask:
        """One task. Raises TaskNotFound."""
        ...

    async def tasks(self, task_filter: TaskFilter, page: int, size: int) -> tuple[list[StoredTask], int]:
        """A page (from 1) of the matching tasks, newest first, and the number of all matching tasks."""
        ...

    async def attempts(
        self, *task_ids: UUID, page: int = 1, size: int | None = None, iteration: int | None = None
    ) -> list[AttemptRecord]:
        """A page (from 1) of the attempts of these tasks, oldest first; without `size`, all of them.

        With `iteration`, only the attempts of that iteration.
        """
        ...

    async def task_clock(self, task_id: UUID) -> TaskClock:
        """The times of a task's ended attempts and standstills. One statement."""
        ...

    async def attempt(self, key: AttemptKey) -> AttemptRecord | None:
        """One attempt; None if there is none with this key."""
        ...

    async def history(self, task_id: UUID, after: int = 0, limit: int = 1000) -> list[HistoryRow]:
        """History rows with an id above `after`, oldest first."""
        ...

    async def longest_silence(self) -> dict[Phase, float]:
        """For each phase, the longest time in seconds since the last heartbeat of a running attempt."""
        ...

    async def workers(self, within: float) -> list[WorkerState]:
        """Workers that sent a request in the last `within` seconds, by name; at most MAX_WORKERS."""
        ...

    async def wait_context(self, task_id: UUID, within: float) -> WaitContext | None:
        """Why a task waits, with workers seen in the last `within` seconds; None without an attempt. One statement."""
        ...

    async def counts(self) -> dict[TaskStatus, int]:
        """The number of tasks in each status."""
        ...

    async def outbox_depth(self) -> tuple[int, float]:
        """The number of rows, and the seconds since the first of them was due (0 if none is)."""
        ...

    async def add_dataset(self, dataset: Dataset) -> None:
        """Register a dataset, with `created_at` by the store's clock; an id that exists is not changed."""
        ...

    async def dataset(self, dataset_id: str) -> Dataset | None:
        """One dataset; None if there is none with this id."""
        ...

    async def find_datasets(self, dataset_ids: Sequence[str]) -> dict[str, Dataset]:
        """Those of these datasets that exist, by their ids. One statement."""
        ...

    async def datasets(self, user_id: int, page: int = 1, size: int = 1000) -> list[Dataset]:
        """A page (from 1) of a user's datasets, newest first."""
        ...

    async def model(self, task_id: UUID, iteration: int | None) -> ModelSource | None:
        """The model of an iteration; without an iteration, of the best one, else of the newest one with a model."""
        ...

    async def uncleaned(self, older_than: float, limit: int = 10_000) -> list[AttemptRecord]:
        """Attempts that ended `older_than` seconds ago and may have artifacts to delete; oldest first.

        Attempts that are marked as cleaned are left out, and so is a completed optimization until its task has been
        over for as long. An attempt that was cleaned before its task ended is listed again, for its log.
        """
        ...

    async def referenced_prefixes(self) -> frozenset[str]:
        """Every attempt's prefix that is an input of a task or a layer of a registered model."""
        ...

    async def mark_cleaned(self, keys: Sequence[AttemptKey]) -> None:
        """Mark these attempts: none of their artifacts has to be deleted later."""
        ...

    async def delete_datasets(self, prefixes: Sequence[str]) -> None:
        """Delete the registry rows of optimized datasets under these prefixes, except inputs of a task."""
        ...

    async def old_inbox(self, older_than: float) -> int:
        """The number of inbox rows of ended tasks that are older than `older_than` seconds."""
        ...

    async def delete_inbox(self, older_than: float, limit: int) -> int:
        """Delete at most `limit` rows that `old_inbox` counts, and return how many were deleted."""
        ...

    async def delete_workers(self, older_than: float) -> None:
        """Delete the rows of workers that sent no request in the last `older_than` seconds."""
        ...

    async def dataset_paths(self, after: str, limit: int) -> list[str]:
        """The prefixes of all users' datasets that sort after `after`, in order."""
        ...

    async def now(self) -> datetime:
        """The time by the store's clock."""
        ...

    async def close(self) -> None:
        """Close the connections."""
        ...
