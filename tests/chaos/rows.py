"""What a run leaves behind, as values: rows of the database, files of the object store, and what is wrong with them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from functools import cached_property
from typing import Any
from uuid import UUID

from contracts.artifacts import Manifest, ManifestFile
from contracts.events import DataOptimized, LeaseLost, ModelEvaluated, ModelTrained, PhaseFailed, PhasePaused
from contracts.tasks import AttemptKey
from contracts.wire import kind_of
from tests.chaos.script import End

ENDINGS = frozenset(
    kind_of(event) for event in (DataOptimized, ModelTrained, ModelEvaluated, PhaseFailed, PhasePaused, LeaseLost)
)
"""Events that end an attempt."""


class Kind(StrEnum):
    """What was broken."""

    LOST = "lost"
    WRONG_END = "wrong_end"
    DUPLICATE_TRANSITION = "duplicate_transition"
    VERSION_GAP = "version_gap"
    STALE_WRITE = "stale_write"
    TWO_HOLDERS = "two_holders"
    COMMAND = "command"
    ARTIFACT = "artifact"
    OUTBOX = "outbox"
    DEAD_LETTER = "dead_letter"
    SURPRISE = "surprise"
    """An answer, or the end of a process, that no fault explains."""


@dataclass(frozen=True, slots=True)
class Violation:
    """One promise broken, about one task where it is about one."""

    kind: Kind
    text: str
    task_id: UUID | None = None

    def __str__(self) -> str:
        about = f"task {self.task_id}: " if self.task_id else ""
        return f"{self.kind}: {about}{self.text}"


@dataclass(frozen=True, slots=True)
class Submitted:
    """What was asked. `ends` are the ends that are right; an unacknowledged one may also never have happened."""

    task_id: UUID
    acknowledged: bool
    ends: frozenset[End]
    iterations: int


@dataclass(frozen=True, slots=True)
class TaskRow:
    """A row of `tasks`; `results` counts the iterations that were evaluated."""

    task_id: UUID
    version: int
    status: str
    reason: str | None
    results: int


@dataclass(frozen=True, slots=True)
class HistoryRow:
    """A row of `task_events`; `version` is there exactly where the event was applied."""

    task_id: UUID
    version: int | None
    kind: str
    status: str
    event: Mapping[str, Any]
    actor: str = ""

    @property
    def key(self) -> AttemptKey | None:
        """The attempt that the event is about, where it is about one."""
        return AttemptKey.model_validate(self.event["key"]) if self.kind in ENDINGS else None


@dataclass(frozen=True, slots=True)
class RunRow:
    """A row of `phase_runs`. `closed_by` and `closing_claim` are of the event that ended it."""

    key: AttemptKey
    state: str
    claim_id: str | None
    closed_by: str | None
    closing_claim: str | None
    created_at: datetime
    ended_at: datetime | None


@dataclass(frozen=True)
class Evidence:
    """All that the run left behind. `files` holds what lies in the object store, `manifests` by prefix."""

    submitted: Sequence[Submitted]
    tasks: Mapping[UUID, TaskRow]
    history: Sequence[HistoryRow]
    runs: Sequence[RunRow]
    files: Mapping[str, ManifestFile] = field(default_factory=dict)
    manifests: Mapping[str, Manifest | str] = field(default_factory=dict)
    """A string says why a manifest cannot be read."""
    outbox: int = 0
    dead: Sequence[str] = ()
    surprises: Sequence[str] = ()

    @cached_property
    def applied(self) -> dict[UUID, list[HistoryRow]]:
        """What was applied to each task, in order."""
        rows: defaultdict[UUID, list[HistoryRow]] = defaultdict(list)
        for row in self.history:
            if row.version is not None:
                rows[row.task_id].append(row)
        return {task_id: sorted(found, key=lambda row: row.version or 0) for task_id, found in rows.items()}
