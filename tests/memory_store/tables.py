"""The tables of the in-memory store, as dictionaries."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count
from uuid import UUID

from contracts.leases import WorkerState
from contracts.tasks import AttemptKey, ModelSource, Phase
from control.machine.machine import AttemptState
from control.machine.task import Task
from control.store.values import AttemptRecord, Dataset, HistoryRow, OutboxRow, StoredTask

ACTIVE_STATES = frozenset({AttemptState.DISPATCHED, AttemptState.RUNNING})


@dataclass(slots=True)
class TaskRow:
    """A row of `tasks`."""

    task: Task
    digest: str
    created_at: datetime
    updated_at: datetime


@dataclass(slots=True)
class AttemptRow:
    """A row of `attempts`."""

    attempt: AttemptRecord
    command_id: UUID
    cleaned_at: datetime | None = None

    @property
    def due_at(self) -> datetime:
        """When its command was or will be due."""
        return self.attempt.due_at

    @property
    def active(self) -> bool:
        """Whether the attempt has not ended."""
        return self.attempt.state in ACTIVE_STATES


@dataclass(slots=True)
class OutboxEntry:
    """A row of `outbox`; `locked_until` is never before `available_at`."""

    row: OutboxRow
    available_at: datetime
    locked_until: datetime


@dataclass(slots=True)
class Tables:
    """One database; several stores can share it, as several control processes share a database."""

    tasks: dict[UUID, TaskRow] = field(default_factory=dict)
    attempts: dict[UUID, dict[AttemptKey, AttemptRow]] = field(default_factory=dict)
    history: list[HistoryRow] = field(default_factory=list)
    inbox: dict[UUID, tuple[UUID, datetime]] = field(default_factory=dict)
    """Message id to task id and time."""
    outbox: dict[int, OutboxEntry] = field(default_factory=dict)
    datasets: dict[str, Dataset] = field(default_factory=dict)
    models: dict[tuple[UUID, int], ModelSource] = field(default_factory=dict)
    workers: dict[str, tuple[WorkerState, datetime]] = field(default_factory=dict)
    leaders: dict[str, object] = field(default_factory=dict)
    outbox_ids: Iterator[int] = field(default_factory=lambda: count(1))

    def attempt(self, key: AttemptKey) -> AttemptRow | None:
        """One attempt; None if it does not exist."""
        return self.attempts.get(key.task_id, {}).get(key)

    def active_attempt(self, task_id: UUID) -> AttemptRow | None:
        """The attempt of a task that has not ended; a task has at most one."""
        return next((row for row in self.attempts.get(task_id, {}).values() if row.active), None)

    def all_attempts(self) -> Iterator[AttemptRow]:
        """Every attempt of every task."""
        return (row for attempts in self.attempts.values() for row in attempts.values())


def stored_task(row: TaskRow) -> StoredTask:
    """The row as the port returns it."""
    return StoredTask(row.task, row.created_at, row.updated_at)


def system_clock() -> datetime:
    """Now, in UTC."""
    return datetime.now(UTC)


class MemoryBase:
    """The base of the parts of the in-memory store; `ttl_of` returns the length of a lease of a phase in seconds."""

    def __init__(
        self,
        ttl_of: Callable[[Phase], float],
        clock: Callable[[], datetime] = system_clock,
        tables: Tables | None = None,
    ) -> None:
        self._ttl_of = ttl_of
        self._clock = clock
        self.tables = tables or Tables()
