"""The tables of the in-memory store: what PostgreSQL keeps, as dictionaries."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count
from uuid import UUID

from contracts.leases import WorkerState
from contracts.tasks import AttemptKey, ModelSource, Phase
from control.machine.machine import RunState
from control.machine.task import Task
from control.store.port import Dataset, HistoryRow, OutboxRow, Run

LIVE = frozenset({RunState.DISPATCHED, RunState.RUNNING})


@dataclass(slots=True)
class TaskRow:
    """A row of `tasks`."""

    task: Task
    digest: str
    created_at: datetime
    updated_at: datetime


@dataclass(slots=True)
class RunRow:
    """A row of `phase_runs`; `ordered_at` is when its command was last due."""

    run: Run
    command_id: UUID
    ordered_at: datetime
    cleaned: bool = False

    @property
    def live(self) -> bool:
        """Whether the attempt may still report."""
        return self.run.state in LIVE


@dataclass(slots=True)
class OutboxEntry:
    """A row of `outbox`; `held_until` is never before `available_at`."""

    row: OutboxRow
    task_id: UUID
    available_at: datetime
    held_until: datetime


@dataclass(slots=True)
class Tables:
    """One database. Stores that share it are control processes that share a database."""

    tasks: dict[UUID, TaskRow] = field(default_factory=dict)
    runs: dict[UUID, dict[AttemptKey, RunRow]] = field(default_factory=dict)
    history: list[HistoryRow] = field(default_factory=list)
    inbox: dict[UUID, tuple[UUID, datetime]] = field(default_factory=dict)
    """Message id to task id and time."""
    outbox: dict[int, OutboxEntry] = field(default_factory=dict)
    datasets: dict[str, Dataset] = field(default_factory=dict)
    models: dict[tuple[UUID, int], ModelSource] = field(default_factory=dict)
    workers: dict[str, tuple[WorkerState, datetime]] = field(default_factory=dict)
    leaders: dict[str, object] = field(default_factory=dict)
    outbox_ids: Iterator[int] = field(default_factory=lambda: count(1))

    def run(self, key: AttemptKey) -> RunRow | None:
        """One attempt."""
        return self.runs.get(key.task_id, {}).get(key)

    def live_run(self, task_id: UUID) -> RunRow | None:
        """The attempt of a task that may still report; there is one at most."""
        return next((row for row in self.runs.get(task_id, {}).values() if row.live), None)

    def all_runs(self) -> Iterator[RunRow]:
        """Every attempt of every task."""
        return (row for runs in self.runs.values() for row in runs.values())


def system_clock() -> datetime:
    """Now, in UTC."""
    return datetime.now(UTC)


class MemoryBase:
    """What every part of the in-memory store works on. `ttl_of` gives a phase's lease in seconds."""

    def __init__(
        self,
        ttl_of: Callable[[Phase], float],
        clock: Callable[[], datetime] = system_clock,
        tables: Tables | None = None,
    ) -> None:
        self._ttl_of = ttl_of
        self._clock = clock
        self.tables = tables or Tables()
