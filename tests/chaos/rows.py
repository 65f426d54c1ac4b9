"""The result of a chaos run as values: rows of the database, files of the object store, and violations."""

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
    """The kind of a violation."""

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
    """An answer, a logged error or the end of a process that no fault explains."""


@dataclass(frozen=True, slots=True)
class Violation:
    """One broken promise; `task_id` is None if it is not about a single task."""

    kind: Kind
    text: str
    task_id: UUID | None = None

    def __str__(self) -> str:
        about = f"task {self.task_id}: " if self.task_id else ""
        return f"{self.kind}: {about}{self.text}"


@dataclass(frozen=True, slots=True)
class Submitted:
    """One submission; `ends` are the allowed ends. Without an acknowledgement its task may also be missing."""

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
    """A row of `task_events`; `version` is None if the event is stale."""

    task_id: UUID
    version: int | None
    kind: str
    status: str
    event: Mapping[str, Any]
    actor: str = ""

    @property
    def key(self) -> AttemptKey | None:
        """The attempt that the event ends; None if it ends no attempt."""
        return AttemptKey.model_validate(self.event["key"]) if self.kind in ENDINGS else None


@dataclass(frozen=True, slots=True)
class AttemptRow:
    """A row of `attempts`; `closed_by` and `closing_claim` are the kind and the claim of the event that ended it."""

    key: AttemptKey
    state: str
    claim_id: str | None
    closed_by: str | None
    closing_claim: str | None
    created_at: datetime
    ended_at: datetime | None


@dataclass(frozen=True)
class Evidence:
    """The whole result of a run: `files` by their paths in the object store, `manifests` by prefix."""

    submitted: Sequence[Submitted]
    tasks: Mapping[UUID, TaskRow]
    history: Sequence[HistoryRow]
    attempts: Sequence[AttemptRow]
    files: Mapping[str, ManifestFile] = field(default_factory=dict)
    manifests: Mapping[str, Manifest | str] = field(default_factory=dict)
    """A string is the reason why a manifest cannot be read."""
    outbox: int = 0
    dead: Sequence[str] = ()
    surprises: Sequence[str] = ()

    @cached_property
    def applied(self) -> dict[UUID, list[HistoryRow]]:
        """The history rows of the applied events of each task, by version."""
        rows: defaultdict[UUID, list[HistoryRow]] = defaultdict(list)
        for row in self.history:
            if row.version is not None:
                rows[row.task_id].append(row)
        return {task_id: sorted(applied, key=lambda row: row.version or 0) for task_id, applied in rows.items()}
