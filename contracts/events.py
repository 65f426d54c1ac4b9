"""Events: facts that workers report to control, and events that control sends to itself."""

from __future__ import annotations

from typing import ClassVar, Literal, Self
from uuid import UUID

from pydantic import Field, model_validator

from contracts.bounds import Count, Counts, MessageText, Metrics, Name, Prefix, Seconds
from contracts.message import Message, derived_id
from contracts.notices import Notices
from contracts.report import Score
from contracts.tasks import AttemptKey, DatasetRef, FailureKind, Iteration, ModelSource, Phase


class PhaseEvent(Message):
    """Fields that all events of workers share: the attempt, and the claim under which it ran."""

    phase: ClassVar[Phase | None] = None
    """The phase that this kind of event completes; None if it can end an attempt of any phase."""

    key: AttemptKey
    claim_id: UUID
    worker_id: Name
    seconds: Seconds = 0.0
    """Wall-clock seconds of the program."""
    gpu_seconds: Seconds = 0.0
    """Seconds times accelerators used; 0 on a CPU."""
    work_seconds: Seconds = 0.0
    """Wall-clock seconds from the first line of the program's `main` to its end, without imports and transfers."""

    @property
    def message_id(self) -> UUID:
        """Derived from the attempt, the claim and the kind."""
        return self.key.derive(self.claim_id, self.kind)

    @model_validator(mode="after")
    def _is_of_its_phase(self) -> Self:
        if self.phase is not None and self.key.phase is not self.phase:
            raise ValueError(f"key.phase is {self.key.phase}; expected {self.phase} in a {self.kind} event")
        return self


class DataOptimized(PhaseEvent):
    """The optimized rows are ready; `rows` is the number of training rows."""

    phase = Phase.OPTIMIZE
    kind: Literal["data_optimized"] = "data_optimized"
    version: Literal[1] = 1
    dataset: DatasetRef
    splits: Prefix
    """Prefix of the artifact whose `splits/` folder holds the canonical dev, test and pool rows."""
    rows: int = Field(ge=1, lt=2**63)
    size: Count = 0
    """Bytes of the training rows."""
    labels: Count = 0
    """Rows drawn from the pool in this iteration."""
    actions: Counts = Field(default_factory=dict)
    """Number of rows to which each rule was applied, e.g. `{"exact_duplicate": 12, "added_targeted": 120}`."""
    notices: Notices = ()


class ModelTrained(PhaseEvent):
    """The model is ready: a full model, or an adapter for its base model."""

    phase = Phase.TRAIN
    kind: Literal["model_trained"] = "model_trained"
    version: Literal[1] = 1
    model: ModelSource
    steps: Count
    metrics: Metrics = Field(default_factory=dict)
    notices: Notices = ()


class ModelEvaluated(PhaseEvent):
    """The scores of the model. Bad cases are only in the report's artifact; for test there are only numbers."""

    phase = Phase.EVALUATE
    kind: Literal["model_evaluated"] = "model_evaluated"
    version: Literal[1] = 1
    report: Prefix
    """Prefix of the artifact that holds `dev_report.json` and `test_report.json`."""
    dev: Score
    test: Score | None = None
    metrics: Metrics = Field(default_factory=dict)
    notices: Notices = ()


class PhaseFailed(PhaseEvent):
    """The attempt ended without a result. If an input caused the failure, `field` names what to correct."""

    kind: Literal["phase_failed"] = "phase_failed"
    version: Literal[1] = 1
    failure: FailureKind
    message: MessageText
    field: MessageText | None = None
    checkpoint: Prefix | None = None
    """Prefix of the attempt's newest complete checkpoint in the object store."""


class PhasePaused(PhaseEvent):
    """The attempt stopped on request, after it wrote a checkpoint if its phase has checkpoints."""

    kind: Literal["phase_paused"] = "phase_paused"
    version: Literal[1] = 1
    checkpoint: Prefix | None = None
    """As in PhaseFailed."""


class LeaseLost(Message):
    """Event that control sends to itself: the lease of this attempt expired without a heartbeat."""

    kind: Literal["lease_lost"] = "lease_lost"
    version: Literal[1] = 1
    key: AttemptKey
    claim_id: UUID
    checkpoint: Prefix | None = None
    """Prefix of the newest complete checkpoint that the heartbeats reported."""
    gpu_seconds: Seconds = 0.0
    """GPU seconds that the last heartbeat reported."""

    @property
    def message_id(self) -> UUID:
        """Derived from the attempt, the claim and the kind."""
        return self.key.derive(self.claim_id, self.kind)


class NextIteration(Message):
    """Event that control sends to itself: start the next iteration. `issued` is the task version that sent it."""

    kind: Literal["next_iteration"] = "next_iteration"
    version: Literal[1] = 1
    task_id: UUID
    iteration: Iteration
    """The iteration that has just ended."""
    issued: Count

    @property
    def message_id(self) -> UUID:
        """Derived from the task, the iteration, `issued` and the kind."""
        return derived_id(self.task_id, self.iteration, self.issued, self.kind)


WorkerEvent = DataOptimized | ModelTrained | ModelEvaluated | PhaseFailed | PhasePaused
Event = WorkerEvent | LeaseLost | NextIteration
