"""Choose the number of torch's threads by the size of each step."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from contracts.options import Hyperparameters, Method

if TYPE_CHECKING:
    from transformers import PreTrainedModel

MIN_OPERATIONS_FOR_THREADS = 1e9
"""Steps of fewer floating-point operations use one thread, because more are not faster (measured on two cores)."""


class StepThreads:
    """The threads of the steps of one training: all, or one in a small step. They depend on the batch only."""

    def __init__(self, model: PreTrainedModel, hyper: Hyperparameters) -> None:
        parameters = sum(parameter.numel() for parameter in model.parameters())
        # Operations per parameter and token: 2 forward, 2 backward for the inputs, 2 more for trained weights.
        self._operations_per_token = (6 if hyper.method is Method.FULL else 4) * parameters
        self._all = torch.get_num_threads()

    def count(self, tokens: int) -> int:
        """The number of threads for a batch of `tokens` tokens, padding included."""
        return self._all if self._operations_per_token * tokens >= MIN_OPERATIONS_FOR_THREADS else 1

    def use(self, tokens: int) -> None:
        """Set torch's number of threads for the next step."""
        if self.count(tokens) != torch.get_num_threads():
            torch.set_num_threads(self.count(tokens))
