"""Phase events: past-tense facts from workers, and control's own facts that travel the same road."""

from __future__ import annotations

from typing import ClassVar, Literal, Self
from uuid import UUID

from pydantic import Field, model_validator

from contracts.message import Message, derived_id
from contracts.report import Score
from contracts.tasks import AttemptKey, DatasetRef, FailureKind, Iteration, ModelSource, Phase


class PhaseEvent(Message):
    """What a worker's events share: the attempt, and the claim under which it was run."""

    phase: ClassVar[Phase | None] = None
    """The phase that this kind of event completes; None where it may end any phase."""

    key: AttemptKey
    claim_id: UUID
    worker_id: str
    seconds: float = Field(default=0.0, ge=0)
    """Wall-clock seconds of the program."""
    gpu_seconds: float = Field(default=0.0, ge=0)
    """Seconds times accelerators held; 0 on a CPU."""

    @property
    def message_id(self) -> UUID:
        """One event of a kind for each claim of an attempt."""
        return self.key.derive(self.claim_id, self.kind)

    @model_validator(mode="after")
    def _is_of_its_phase(self) -> Self:
        if self.phase is not None and self.key.phase is not self.phase:
            raise ValueError(f"key.phase is {self.key.phase}, a {self.kind} event is of {self.phase}")
        return self


class DataOptimized(PhaseEvent):
    """The rows are ready. `rows` is what training will see."""

    phase = Phase.OPTIMIZE
    kind: Literal["data_optimized"] = "data_optimized"
    version: Literal[1] = 1
    dataset: DatasetRef
    splits: str
    """Prefix of the artifact whose `splits/` folder holds the canonical dev, test and pool rows."""
    rows: int = Field(ge=1, lt=2**63)
    size: int = Field(default=0, ge=0, lt=2**63)
    """Bytes of those rows."""
    labels: int = Field(default=0, ge=0)
    """Rows drawn from the pool in this iteration."""
    actions: dict[str, int] = Field(default_factory=dict)
    """How many rows each rule touched, e.g. `{"exact_duplicate": 12, "added_targeted": 120}`."""


class ModelTrained(PhaseEvent):
    """The model is ready: a full one, or an adapter upon its base."""

    phase = Phase.TRAIN
    kind: Literal["model_trained"] = "model_trained"
    version: Literal[1] = 1
    model: ModelSource
    steps: int = Field(ge=0)
    metrics: dict[str, float] = Field(default_factory=dict)


class ModelEvaluated(PhaseEvent):
    """The scores. Bad cases stay in the report's artifact; of test there are numbers only."""

    phase = Phase.EVALUATE
    kind: Literal["model_evaluated"] = "model_evaluated"
    version: Literal[1] = 1
    report: str
    """Prefix of the artifact that holds `dev_report.json` and `test_report.json`."""
    dev: Score
    test: Score | None = None
    metrics: dict[str, float] = Field(default_factory=dict)


class PhaseFailed(PhaseEvent):
    """The attempt ended without a result. `field` names what to mend where the input was at fault."""

    kind: Literal["phase_failed"] = "phase_failed"
    version: Literal[1] = 1
    failure: FailureKind
    message: str
    field: str | None = None
    checkpoint: str | None = None
    """Prefix of the newest complete checkpoint that the attempt left in the store."""


class PhasePaused(PhaseEvent):
    """The attempt wrote a checkpoint and stopped because it was asked to."""

    kind: Literal["phase_paused"] = "phase_paused"
    version: Literal[1] = 1
    checkpoint: str | None = None
    """As in PhaseFailed."""


class LeaseLost(Message):
    """Control's own: the holder of this attempt went silent for longer than its lease."""

    kind: Literal["lease_lost"] = "lease_lost"
    version: Literal[1] = 1
    key: AttemptKey
    claim_id: UUID
    checkpoint: str | None = None
    """Prefix of the newest complete checkpoint that its heartbeats named."""
    gpu_seconds: float = Field(default=0.0, ge=0)
    """What it had used by its last heartbeat."""

    @property
    def message_id(self) -> UUID:
        """One loss for each claim of an attempt."""
        return self.key.derive(self.claim_id, self.kind)


class NextIteration(Message):
    """Control's own: the loop goes round. `issued` is the task's version that asked for it."""

    kind: Literal["next_iteration"] = "next_iteration"
    version: Literal[1] = 1
    task_id: UUID
    iteration: Iteration
    """The iteration that has just ended."""
    issued: int

    @property
    def message_id(self) -> UUID:
        """One turn for each time that the machine asked for it."""
        return derived_id(self.task_id, self.iteration, self.issued, self.kind)


WorkerEvent = DataOptimized | ModelTrained | ModelEvaluated | PhaseFailed | PhasePaused
Event = WorkerEvent | LeaseLost | NextIteration
