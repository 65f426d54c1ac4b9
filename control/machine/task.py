"""The state of one task, as a value. Everything the machine needs to decide stands here."""

from __future__ import annotations

from dataclasses import dataclass, field
from uuid import UUID

from contracts.errors import TreadleError
from contracts.report import Score
from contracts.tasks import (
    AttemptKey,
    DatasetRef,
    ModelSource,
    Phase,
    TaskSpec,
    TaskStatus,
)


@dataclass(frozen=True, slots=True)
class IterationResult:
    """What one whole turn of the loop brought. `labels` were drawn from the pool in this turn."""

    iteration: int
    dataset: DatasetRef
    rows: int
    labels: int
    actions: dict[str, int]
    model: ModelSource
    report: str
    dev: Score
    test: Score | None


@dataclass(frozen=True, slots=True)
class Turn:
    """The iteration under way: what its phases have brought so far."""

    dataset: DatasetRef | None = None
    rows: int = 0
    labels: int = 0
    actions: dict[str, int] = field(default_factory=dict)
    model: ModelSource | None = None
    attempts: dict[Phase, int] = field(default_factory=dict)
    """The newest attempt issued for each phase of this iteration; it only ever grows."""


@dataclass(frozen=True, slots=True)
class Task:
    """One request to make a model better, and how far it is."""

    task_id: UUID
    spec: TaskSpec
    status: TaskStatus = TaskStatus.PENDING
    version: int = 1
    iteration: int = 0
    held: TaskStatus | None = None
    """What SUSPENDED resumes to, or where FAILED failed; None in every other status."""
    pausing: bool = False
    """Whether the last pause asked the running attempt to write a checkpoint and stop; False once resumed."""
    live: bool = False
    """Whether the newest attempt of the present phase may still report."""
    failures: int = 0
    """Failed attempts at the present phase: the retry budget that has been spent."""
    memory_failures: int = 0
    """Attempts of this phase that ran out of memory; each halves the batch."""
    checkpoint: str | None = None
    """Where the next attempt of the present phase may go on from."""
    splits: str | None = None
    turn: Turn = Turn()
    results: tuple[IterationResult, ...] = ()
    gpu_seconds: float = 0.0
    reason: str | None = None
    """Why it completed (a StopReason) or failed (a FailureKind)."""
    message: str | None = None

    @property
    def phase(self) -> Phase | None:
        """The phase under way, or the one remembered while suspended or failed."""
        return (self.held or self.status).phase

    @property
    def attempt(self) -> int:
        """The newest attempt issued for the present phase; 0 where none was."""
        return self.turn.attempts.get(self.phase, 0) if self.phase else 0

    @property
    def key(self) -> AttemptKey | None:
        """The fencing token of the newest attempt; None where there is none."""
        if self.phase is None or self.attempt == 0:
            return None
        return AttemptKey(task_id=self.task_id, iteration=self.iteration, phase=self.phase, attempt=self.attempt)

    @property
    def latest(self) -> IterationResult | None:
        """The newest iteration that was evaluated."""
        return self.results[-1] if self.results else None

    @property
    def best(self) -> IterationResult | None:
        """The iteration with the highest dev score; the earlier one where two are equal."""
        return max(self.results, key=lambda r: (r.dev.value, -r.iteration), default=None)

    @property
    def labels(self) -> int:
        """Rows drawn from the pool so far."""
        return sum(result.labels for result in self.results)


class IllegalTransition(TreadleError):
    """The task's status does not allow what was asked; nothing changed."""

    def __init__(self, task_id: UUID, status: TaskStatus, event: str, allowed: str) -> None:
        self.task_id = task_id
        self.status = status
        self.event = event
        super().__init__(f"task {task_id} is {status}: {event} needs {allowed}")
