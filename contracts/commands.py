"""Commands: orders from control to a worker to run one attempt. A command holds all that the worker needs."""

from __future__ import annotations

from typing import Literal
from uuid import UUID

from pydantic import Field

from contracts.bounds import Count, Prefix, Seconds
from contracts.message import Message
from contracts.options import EvaluationOptions, Hyperparameters, OptimizationOptions
from contracts.tasks import AttemptKey, DatasetRef, DatasetRefs, ModelSource, Phase


class PhaseCommand(Message):
    """Fields that all commands share: the attempt to run, and the prefix of its output."""

    key: AttemptKey
    output: Prefix
    """Prefix in the object store under which only this attempt writes."""
    seed: int = Field(ge=0, lt=2**31)
    time_limit: Seconds | None = None
    """Seconds after which the worker ends the attempt; None: no limit."""
    stall_limit: Seconds | None = None
    """Seconds without progress after which the worker ends the attempt; None: no limit."""

    @property
    def message_id(self) -> UUID:
        """Derived from the attempt: each attempt has one command."""
        return self.key.derive("command")


class OptimizeData(PhaseCommand):
    """Clean the rows. From iteration 2 on, also improve them with the report of the previous iteration."""

    kind: Literal["optimize_data"] = "optimize_data"
    version: Literal[1] = 1
    user_id: Count
    datasets: DatasetRefs
    """The datasets of the task, in any known format. They are read in iteration 1, or if `splits` is None."""
    current: DatasetRef | None
    """The optimized rows of the previous iteration; None in iteration 1."""
    splits: Prefix | None
    """Prefix of the artifact whose `splits/` folder holds canonical dev, test and pool rows; None in iteration 1."""
    report: Prefix | None
    """Prefix of the evaluation whose `dev_report.json` guides the optimizer; None in iteration 1."""
    options: OptimizationOptions


class TrainModel(PhaseCommand):
    """Train the base model on the optimized rows."""

    kind: Literal["train_model"] = "train_model"
    version: Literal[1] = 1
    model: ModelSource
    dataset: DatasetRef
    hyperparameters: Hyperparameters
    resume_from: Prefix | None = None
    """Prefix of the checkpoint from which training continues; None: training starts from the base model."""


class EvaluateModel(PhaseCommand):
    """Score the model on dev (with bad cases) and on the sealed test (numbers only)."""

    kind: Literal["evaluate_model"] = "evaluate_model"
    version: Literal[1] = 1
    model: ModelSource
    splits: Prefix
    """Prefix of the artifact whose `splits/` folder holds `dev.jsonl` and `test.jsonl`."""
    hyperparameters: Hyperparameters
    options: EvaluationOptions


Command = OptimizeData | TrainModel | EvaluateModel

COMMAND_OF: dict[Phase, type[OptimizeData] | type[TrainModel] | type[EvaluateModel]] = {
    Phase.OPTIMIZE: OptimizeData,
    Phase.TRAIN: TrainModel,
    Phase.EVALUATE: EvaluateModel,
}
