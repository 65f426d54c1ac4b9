"""The types of a task: modes, statuses, phases, attempts, and the task specification."""

from __future__ import annotations

import re
from collections.abc import Hashable
from enum import StrEnum
from typing import Annotated, Any
from uuid import UUID

from pydantic import AfterValidator, Field, model_validator

from contracts.bounds import MAX_ADAPTERS, MAX_PREFIX, Count, Name, Prefix, Text
from contracts.message import Frozen, derived_id
from contracts.options import EvaluationOptions, Hyperparameters, OptimizationOptions, StopRules, TimeLimits


class TaskMode(StrEnum):
    """One iteration (`STANDARD`), or iterations until a stop rule holds (`CONTINUOUS`)."""

    STANDARD = "STANDARD"
    CONTINUOUS = "CONTINUOUS"


class TaskStatus(StrEnum):
    """The status of a task."""

    PENDING = "PENDING"
    OPTIMIZING = "OPTIMIZING"
    TRAINING = "TRAINING"
    EVALUATING = "EVALUATING"
    LOOPING = "LOOPING"
    SUSPENDED = "SUSPENDED"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"

    @property
    def phase(self) -> Phase | None:
        """The phase of a task with this status; None if it is in no phase."""
        return _PHASE_OF.get(self)

    @property
    def terminal(self) -> bool:
        """Whether a task with this status has ended."""
        return self in TERMINAL


class Phase(StrEnum):
    """One step of an iteration, done by one kind of worker."""

    OPTIMIZE = "optimize"
    TRAIN = "train"
    EVALUATE = "evaluate"

    @property
    def status(self) -> TaskStatus:
        """The status of a task in this phase."""
        return _PHASES[self][0]

    @property
    def worker(self) -> str:
        """The kind of worker that runs this phase, e.g. `trainer`."""
        return _PHASES[self][1]

    @property
    def noun(self) -> str:
        """The name of this phase in HTTP responses, e.g. `training`."""
        return _PHASES[self][2]


_PHASES = {
    Phase.OPTIMIZE: (TaskStatus.OPTIMIZING, "optimizer", "optimization"),
    Phase.TRAIN: (TaskStatus.TRAINING, "trainer", "training"),
    Phase.EVALUATE: (TaskStatus.EVALUATING, "evaluator", "evaluation"),
}
_PHASE_OF = {phase.status: phase for phase in Phase}
ACTIVE = frozenset(_PHASE_OF)
"""The statuses of a task that is in a phase."""
TERMINAL = frozenset({TaskStatus.COMPLETED, TaskStatus.FAILED, TaskStatus.CANCELLED})
"""The statuses of a task that has ended."""


class PauseMode(StrEnum):
    """What a pause does with the running attempt: let it finish, stop it at a checkpoint, or fence it at once."""

    DRAIN = "drain"
    CHECKPOINT = "checkpoint"
    NOW = "now"


class StopReason(StrEnum):
    """Why a task completed."""

    ONCE_THROUGH = "once_through"
    THRESHOLD = "performance_threshold"
    MAX_ITERATIONS = "max_iterations"
    PLATEAU = "plateau"
    GPU_BUDGET = "gpu_budget"
    LABEL_BUDGET = "label_budget"


class FailureKind(StrEnum):
    """Why an attempt or a task failed."""

    BAD_INPUT = "bad_input"
    BAD_CONFIGURATION = "bad_configuration"
    OUT_OF_BUDGET = "out_of_budget"
    BAD_RESULT = "bad_result"
    OUT_OF_MEMORY = "out_of_memory"
    PROGRAM_CRASHED = "program_crashed"
    STORE_UNAVAILABLE = "store_unavailable"
    LEASE_LOST = "lease_lost"
    DEAD_LETTERED = "dead_lettered"
    FAILED_BY_HAND = "failed_by_hand"
    WORKER_UNFIT = "worker_unfit"
    TIMED_OUT = "timed_out"
    STALLED = "stalled"
    HUB_UNAVAILABLE = "hub_unavailable"

    @property
    def retryable(self) -> bool:
        """Whether another attempt may succeed; false for causes that a retry does not change."""
        return self not in {
            FailureKind.BAD_INPUT,
            FailureKind.BAD_CONFIGURATION,
            FailureKind.OUT_OF_BUDGET,
            FailureKind.FAILED_BY_HAND,
        }

    @property
    def resumable(self) -> bool:
        """Whether another attempt may continue from a checkpoint; not after `out_of_memory`: its batch is smaller."""
        return self.retryable and self is not FailureKind.OUT_OF_MEMORY


ModelName = Annotated[Text, Field(min_length=1, max_length=1000)]
"""The name of a model, as a user gives it."""
AttemptNumber = Annotated[int, Field(ge=1, lt=2**31)]
Iteration = Annotated[int, Field(ge=1, lt=2**31)]


def _check_attempt_name(text: str) -> str:
    if not re.fullmatch(rf"[1-9][0-9]*/({'|'.join(Phase)})/a[1-9][0-9]*", text):
        raise ValueError("expected iteration/phase/aN, such as 1/train/a2; phases are " + ", ".join(Phase))
    return text


AttemptName = Annotated[str, Field(max_length=50), AfterValidator(_check_attempt_name)]
"""The name of an attempt within its task, e.g. `1/train/a2`."""


class AttemptKey(Frozen):
    """The key of one attempt at one phase of one iteration of a task, which is also its fencing token."""

    task_id: UUID
    iteration: Iteration
    phase: Phase
    attempt: AttemptNumber

    @property
    def name(self) -> AttemptName:
        """The name of the attempt within its task, e.g. `1/train/a2`."""
        return f"{self.iteration}/{self.phase}/a{self.attempt}"

    def derive(self, *parts: Hashable) -> UUID:
        """An id derived from this attempt and `parts`."""
        return derived_id(self.task_id, self.iteration, self.phase, self.attempt, *parts)


class DatasetRef(Frozen):
    """A registered dataset and the prefix of its artifact in the object store."""

    dataset_id: Name
    prefix: Prefix


class DatasetRefs(Frozen):
    """The datasets of a task. A missing `dev` or `test` is split off `train` by near-duplicate cluster."""

    train: DatasetRef
    dev: DatasetRef | None = None
    test: DatasetRef | None = None
    pool: DatasetRef | None = None


class ModelSource(Frozen):
    """A model: a base, and the adapters to merge into it in this order.

    `base` is `path:/abs/folder`, `hub:org/name` or `artifact:models/…`; `adapters` are artifact prefixes.
    """

    base: Text = Field(pattern=r"^(path|hub|artifact):.+", max_length=MAX_PREFIX + 100)
    adapters: Annotated[tuple[Prefix, ...], Field(max_length=MAX_ADAPTERS)] = ()

    @model_validator(mode="before")
    @classmethod
    def _without_trust(cls, value: Any) -> Any:  # noqa: ANN401  # anything may be validated
        """Drop a field of earlier versions: no message decides whether code runs, but the setting of each worker."""
        if isinstance(value, dict) and "trust_remote_code" in value:
            return {name: item for name, item in value.items() if name != "trust_remote_code"}
        return value


class TaskSpec(Frozen):
    """What the user requested, with every name resolved; it never changes after creation."""

    mode: TaskMode
    task_name: Name
    user_id: Count
    model_name: ModelName
    model: ModelSource
    datasets: DatasetRefs
    hyperparameters: Hyperparameters = Hyperparameters()
    optimization: OptimizationOptions = OptimizationOptions()
    evaluation: EvaluationOptions = EvaluationOptions()
    stop: StopRules = StopRules()
    seed: int = Field(default=1, ge=0, lt=2**31)
    max_failures: int = Field(default=3, ge=0, le=100)
    limits: TimeLimits = TimeLimits()
