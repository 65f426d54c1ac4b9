"""How many of torch's threads a step is worth."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from contracts.options import Hyperparameters, Method

if TYPE_CHECKING:
    from transformers import PreTrainedModel

WORTH_THREADS = 3e9
"""Floating-point operations of a step from which more than one thread pays.

Measured on two cores with a Llama of 0.65 M parameters: a LoRA step of 1,024 tokens (2.7e9) took the same time on
two threads and a third more of the processor, which other services share; a full step of 1,024 (3.6e9) ran 1.2
times as fast and one of 2,048 (8e9) 1.7 times.
"""


def use_threads(model: PreTrainedModel, hyper: Hyperparameters) -> None:
    """Leave one thread where steps are small; else all that torch was given. Says nothing about a GPU's work."""
    parameters = sum(parameter.numel() for parameter in model.parameters())
    # Forward 2 a parameter and token, backward as much for the inputs, and again for weights that move.
    each = 6 if hyper.method is Method.FULL else 4
    if each * parameters * hyper.tokens_per_batch < WORTH_THREADS:
        torch.set_num_threads(1)
