"""Phase commands: imperative requests from control to a worker. A command holds all that a worker needs."""

from __future__ import annotations

from typing import Literal
from uuid import UUID

from contracts.message import Message
from contracts.options import EvaluationOptions, Hyperparameters, OptimizationOptions
from contracts.tasks import AttemptKey, DatasetRef, DatasetRefs, ModelSource, Phase


class PhaseCommand(Message):
    """What the three commands share: the attempt they order, and where its output goes."""

    key: AttemptKey
    output: str
    """Prefix in the object store under which this attempt, and nobody else, writes."""
    seed: int

    @property
    def message_id(self) -> UUID:
        """One command an attempt."""
        return self.key.derive("command")


class OptimizeData(PhaseCommand):
    """Clean the rows; from iteration 2 on, answer the report."""

    kind: Literal["optimize_data"] = "optimize_data"
    version: Literal[1] = 1
    user_id: int
    datasets: DatasetRefs
    """What the task was given, in any known format. Read in iteration 1, or where `splits` is None."""
    current: DatasetRef | None
    """The optimised rows of the iteration before; None in the first."""
    splits: str | None
    """Prefix of the artifact whose `splits/` folder holds canonical dev, test and pool rows; None at first."""
    report: str | None
    """Prefix of the evaluation whose `dev_report.json` is the feedback; None in the first iteration."""
    options: OptimizationOptions


class TrainModel(PhaseCommand):
    """Train from the base on the optimised rows."""

    kind: Literal["train_model"] = "train_model"
    version: Literal[1] = 1
    model: ModelSource
    dataset: DatasetRef
    hyperparameters: Hyperparameters
    resume_from: str | None = None
    """Prefix of a checkpoint of an earlier attempt."""


class EvaluateModel(PhaseCommand):
    """Score the model on dev (with bad cases) and on the sealed test (numbers only)."""

    kind: Literal["evaluate_model"] = "evaluate_model"
    version: Literal[1] = 1
    model: ModelSource
    splits: str
    """Prefix of the artifact whose `splits/` folder holds `dev.jsonl` and `test.jsonl`."""
    hyperparameters: Hyperparameters
    options: EvaluationOptions


Command = OptimizeData | TrainModel | EvaluateModel

COMMAND_OF: dict[Phase, type[OptimizeData] | type[TrainModel] | type[EvaluateModel]] = {
    Phase.OPTIMIZE: OptimizeData,
    Phase.TRAIN: TrainModel,
    Phase.EVALUATE: EvaluateModel,
}
