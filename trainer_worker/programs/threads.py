"""Choose the number of torch's threads by the size of a step."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from contracts.options import Hyperparameters, Method

if TYPE_CHECKING:
    from transformers import PreTrainedModel

MIN_OPERATIONS_FOR_THREADS = 3e9
"""Steps of fewer floating-point operations use one thread, because two are not faster (measured on two cores)."""


def use_threads(model: PreTrainedModel, hyper: Hyperparameters) -> None:
    """Limit torch to one CPU thread if the steps are small; otherwise leave its number of threads unchanged."""
    parameters = sum(parameter.numel() for parameter in model.parameters())
    # Operations per parameter and token: 2 forward, 2 backward for the inputs, 2 more for trained weights.
    per_token = 6 if hyper.method is Method.FULL else 4
    if per_token * parameters * hyper.tokens_per_batch < MIN_OPERATIONS_FOR_THREADS:
        torch.set_num_threads(1)
