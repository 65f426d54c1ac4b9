"""The vocabulary of a task: modes, statuses, phases, and the resolved specification of what was asked."""

from __future__ import annotations

import re
from collections.abc import Hashable
from enum import StrEnum
from typing import Annotated
from uuid import UUID

from pydantic import AfterValidator, Field

from contracts.message import Frozen, derived_id
from contracts.options import EvaluationOptions, Hyperparameters, OptimizationOptions, StopRules


class TaskMode(StrEnum):
    """Once through, or round and round."""

    STANDARD = "STANDARD"
    CONTINUOUS = "CONTINUOUS"


class TaskStatus(StrEnum):
    """Where a task stands."""

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
        """The phase that a task of this status is in."""
        return _PHASE_OF.get(self)

    @property
    def terminal(self) -> bool:
        """Whether a task of this status has ended."""
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
        """The kind of worker that runs it, e.g. `trainer`."""
        return _PHASES[self][1]

    @property
    def noun(self) -> str:
        """Its name in answers over HTTP, e.g. `training`."""
        return _PHASES[self][2]


_PHASES = {
    Phase.OPTIMIZE: (TaskStatus.OPTIMIZING, "optimizer", "optimization"),
    Phase.TRAIN: (TaskStatus.TRAINING, "trainer", "training"),
    Phase.EVALUATE: (TaskStatus.EVALUATING, "evaluator", "evaluation"),
}
_PHASE_OF = {phase.status: phase for phase in Phase}
ACTIVE = frozenset(_PHASE_OF)
"""The statuses of a task in a phase."""
TERMINAL = frozenset({TaskStatus.COMPLETED, TaskStatus.FAILED, TaskStatus.CANCELLED})
"""The statuses of a task that has ended."""


class PauseMode(StrEnum):
    """What a pause does to the running attempt: let it end, ask for a checkpoint, or fence it at once."""

    DRAIN = "drain"
    CHECKPOINT = "checkpoint"
    NOW = "now"


class StopReason(StrEnum):
    """Why a task that COMPLETED stopped."""

    ONCE_THROUGH = "once_through"
    THRESHOLD = "performance_threshold"
    MAX_ITERATIONS = "max_iterations"
    PLATEAU = "plateau"
    GPU_BUDGET = "gpu_budget"
    LABEL_BUDGET = "label_budget"


class FailureKind(StrEnum):
    """Why an attempt, or a task, failed. `retryable` decides whether another attempt may help."""

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

    @property
    def retryable(self) -> bool:
        """Bad input, bad configuration, an empty purse and a person's word stay so however often one tries."""
        return self not in {
            FailureKind.BAD_INPUT,
            FailureKind.BAD_CONFIGURATION,
            FailureKind.OUT_OF_BUDGET,
            FailureKind.FAILED_BY_HAND,
        }

    @property
    def resumable(self) -> bool:
        """Whether another attempt may go on from a checkpoint: a smaller batch cannot go on from a larger one's."""
        return self.retryable and self is not FailureKind.OUT_OF_MEMORY


Attempt = Annotated[int, Field(ge=1, lt=2**31)]
Iteration = Annotated[int, Field(ge=1, lt=2**31)]


def _as_attempts_are_named(text: str) -> str:
    if not re.fullmatch(rf"[1-9][0-9]*/({'|'.join(Phase)})/a[1-9][0-9]*", text):
        raise ValueError("expected iteration/phase/aN, such as 1/train/a2; phases are " + ", ".join(Phase))
    return text


AttemptName = Annotated[str, AfterValidator(_as_attempts_are_named)]
"""One of a task's attempts, e.g. `1/train/a2`."""


class AttemptKey(Frozen):
    """The fencing token: one try at one phase of one iteration of one task."""

    task_id: UUID
    iteration: Iteration
    phase: Phase
    attempt: Attempt

    @property
    def name(self) -> AttemptName:
        """The attempt among those of its task, as people write it."""
        return f"{self.iteration}/{self.phase}/a{self.attempt}"

    def derive(self, *parts: Hashable) -> UUID:
        """An id that belongs to this attempt alone."""
        return derived_id(self.task_id, self.iteration, self.phase, self.attempt, *parts)


class DatasetRef(Frozen):
    """Rows in the object store: the registered dataset and the prefix of its artifact."""

    dataset_id: str
    prefix: str


class DatasetRefs(Frozen):
    """What a task was given. A missing `dev` or `test` is split off `train` by near-duplicate cluster."""

    train: DatasetRef
    dev: DatasetRef | None = None
    test: DatasetRef | None = None
    pool: DatasetRef | None = None


class ModelSource(Frozen):
    """A model as layers: a base, then adapters to be merged into it in order.

    `base` is `path:/abs/folder`, `hub:org/name` or `artifact:models/…`; `adapters` are artifact prefixes.
    """

    base: str = Field(pattern=r"^(path|hub|artifact):.+")
    adapters: tuple[str, ...] = ()
    trust_remote_code: bool = False


class TaskSpec(Frozen):
    """What was asked, with every name resolved; it never changes after creation."""

    mode: TaskMode
    task_name: str
    user_id: int
    model_name: str
    model: ModelSource
    datasets: DatasetRefs
    hyperparameters: Hyperparameters = Hyperparameters()
    optimization: OptimizationOptions = OptimizationOptions()
    evaluation: EvaluationOptions = EvaluationOptions()
    stop: StopRules = StopRules()
    seed: int = 1
    max_failures: int = Field(default=3, ge=0, le=100)
