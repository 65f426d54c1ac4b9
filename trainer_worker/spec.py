"""What the training program is given and what it answers. No torch: the handlers read both."""

from __future__ import annotations

from pydantic import Field

from contracts.message import Frozen
from contracts.options import Hyperparameters
from infra.models.model_inputs import ModelLocation

ROWS, CHECKPOINT = "rows", "checkpoint"
"""Names of the inputs that hold `train.jsonl`, and the checkpoint to go on from."""


class TrainSpec(Frozen):
    """One training: the base, how to train it, and the seed of everything that is drawn."""

    model: ModelLocation
    hyperparameters: Hyperparameters
    seed: int
    resume_from: str | None = None
    """The prefix of the checkpoint that the input `checkpoint` holds, unless it was damaged."""


class TrainResult(Frozen):
    """What was trained. `metrics` holds loss, tokens_per_second (padding not counted), padding_fraction, …"""

    steps: int = Field(ge=0)
    metrics: dict[str, float]
