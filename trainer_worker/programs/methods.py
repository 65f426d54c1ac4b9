"""Select the trainable parameters: all of them, or low-rank adapters on every linear layer."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import torch
from peft import LoraConfig, get_peft_model

from contracts.options import Hyperparameters, Method
from infra.errors import BadConfiguration

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def prepare(model: PreTrainedModel, hyper: Hyperparameters) -> PreTrainedModel:
    """Return the model in training mode; only the parameters that `hyper.method` trains require gradients.

    Raises BadConfiguration if LoRA does not fit the model.
    """
    if hyper.method is Method.FULL:
        # Trained weights are float32; in lower precision small steps would be lost to rounding.
        torch.nn.Module.to(model, torch.float32)
        model.requires_grad_(requires_grad=True)
        model.train()
        return model
    config = LoraConfig(
        task_type="CAUSAL_LM",
        r=hyper.lora_rank,
        lora_alpha=hyper.lora_alpha,
        lora_dropout=hyper.lora_dropout,
        target_modules="all-linear",
    )
    try:
        adapted = get_peft_model(model, config)
    except ValueError as error:
        raise BadConfiguration(
            f"method lora does not fit this model: {error}; try method full", field="method"
        ) from error
    adapted.train()
    return cast("PreTrainedModel", adapted)  # it forwards every attribute that is used here


def optimizer_for(model: PreTrainedModel, hyper: Hyperparameters) -> torch.optim.AdamW:
    """Return AdamW over the trainable parameters, with weight decay only for matrices, not for biases and norms."""
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    matrices = [parameter for parameter in trainable if parameter.ndim > 1]
    vectors = [parameter for parameter in trainable if parameter.ndim <= 1]
    groups = [
        {"params": matrices, "weight_decay": hyper.weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW([group for group in groups if group["params"]], lr=hyper.learning_rate, fused=True)
