"""The state of one task, as an immutable value with everything that the machine needs to decide."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from uuid import UUID

from contracts.errors import TreadleError
from contracts.notices import Notices
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
    """The result of one complete iteration; `labels` is the number of rows drawn from the pool in it."""

    iteration: int
    dataset: DatasetRef
    rows: int
    labels: int
    actions: dict[str, int]
    model: ModelSource
    report: str
    dev: Score
    test: Score | None
    notices: dict[Phase, Notices] = field(default_factory=dict)
    """What each phase did with the rows; empty if the iteration is neither the first nor one of the newest."""


@dataclass(frozen=True, slots=True)
class IterationState:
    """What the phases of the current iteration have produced so far."""

    dataset: DatasetRef | None = None
    rows: int = 0
    labels: int = 0
    actions: dict[str, int] = field(default_factory=dict)
    model: ModelSource | None = None
    attempts: dict[Phase, int] = field(default_factory=dict)
    """The number of the newest attempt issued for each phase of this iteration; it never decreases."""
    notices: dict[Phase, Notices] = field(default_factory=dict)
    """What the completed phases did with the rows; the evaluation moves them to the result."""


@dataclass(frozen=True, slots=True)
class Task:
    """One request to improve a model, with its progress."""

    task_id: UUID
    spec: TaskSpec
    status: TaskStatus = TaskStatus.PENDING
    version: int = 1
    iteration: int = 0
    resume_status: TaskStatus | None = None
    """The status that a SUSPENDED task resumes to, or in which a FAILED task failed; None in every other status."""
    pausing: bool = False
    """Whether the last pause asked the running attempt to write a checkpoint and stop; False after a resume."""
    attempt_active: bool = False
    """Whether the newest attempt at the current phase may still report."""
    failures: int = 0
    """Failed and lost attempts at the current phase; `spec.max_failures` limits them."""
    unfit_failures: int = 0
    """Attempts in a row at the current phase that a broken machine made fail; most of them are not in `failures`."""
    hub_failures: int = 0
    """Attempts in a row at the current phase that failed because the hub was away; most are not in `failures`."""
    memory_failures: int = 0
    """Attempts at the current phase that ran out of memory; each halves the batch of the next attempt."""
    checkpoint: str | None = None
    """Prefix of the checkpoint from which the next attempt at the current phase goes on."""
    splits: str | None = None
    current: IterationState = IterationState()
    results: tuple[IterationResult, ...] = ()
    gpu_seconds: float = 0.0
    reason: str | None = None
    """Why the task ended: a StopReason if COMPLETED, a FailureKind if FAILED, `cancelled` if CANCELLED."""
    message: str | None = None

    def without_failures(self) -> Task:
        """The task with no failure at its phase."""
        return replace(self, failures=0, unfit_failures=0, hub_failures=0, memory_failures=0)

    @property
    def phase(self) -> Phase | None:
        """The current phase; if the task is suspended or failed, the phase of its previous status."""
        return (self.resume_status or self.status).phase

    @property
    def attempt(self) -> int:
        """The number of the newest attempt at the current phase; 0 if there is none."""
        return self.current.attempts.get(self.phase, 0) if self.phase else 0

    @property
    def key(self) -> AttemptKey | None:
        """The fencing token of the newest attempt; None if there is none."""
        if self.phase is None or self.attempt == 0:
            return None
        return AttemptKey(task_id=self.task_id, iteration=self.iteration, phase=self.phase, attempt=self.attempt)

    @property
    def latest(self) -> IterationResult | None:
        """The newest evaluated iteration."""
        return self.results[-1] if self.results else None

    @property
    def best(self) -> IterationResult | None:
        """The iteration with the highest dev score; the earlier one if two are equal."""
        return max(self.results, key=lambda r: (r.dev.value, -r.iteration), default=None)

    @property
    def labels(self) -> int:
        """Rows drawn from the pool so far."""
        return sum(result.labels for result in self.results)


class IllegalTransition(TreadleError):
    """The task's state does not allow the request; nothing changed."""

    def __init__(self, task_id: UUID, status: TaskStatus, event: str, allowed: str) -> None:
        self.task_id = task_id
        self.status = status
        self.event = event
        super().__init__(f"task {task_id} is {status}: {event} needs {allowed}")
