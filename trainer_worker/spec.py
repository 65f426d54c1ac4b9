"""The program's input, `spec.json`, and its output, `result.json`; without torch, because `worker.py` uses both."""

from __future__ import annotations

from pydantic import Field

from contracts.message import Frozen
from contracts.notices import Notices
from contracts.options import Hyperparameters
from infra.models.model_inputs import ModelLocation

ROWS, CHECKPOINT = "rows", "checkpoint"
"""Names of the inputs that hold `train.jsonl` and the checkpoint to resume from."""


class TrainSpec(Frozen):
    """One training: the base model, its hyper-parameters, and the seed of all random numbers."""

    model: ModelLocation
    hyperparameters: Hyperparameters
    seed: int
    resume_from: str | None = None
    """Prefix of the checkpoint; the input `checkpoint` holds it, unless it was damaged."""


class TrainResult(Frozen):
    """The result; `metrics` holds loss, tokens_per_second (padding not counted), padding_fraction and others."""

    steps: int = Field(ge=0)
    metrics: dict[str, float]
    base: str | None = None
    """The whole model, as in `ModelSource`, on which a written adapter is complete. None: that of the command."""
    notices: Notices = ()
