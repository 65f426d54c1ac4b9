"""Which parameters move: all of them, or low-rank adapters upon every linear layer."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import torch
from peft import LoraConfig, get_peft_model

from contracts.options import Hyperparameters, Method
from infra.errors import BadConfiguration

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def prepare(model: PreTrainedModel, hyper: Hyperparameters) -> PreTrainedModel:
    """The model in training mode; only the parameters that `hyper.method` moves require gradients."""
    if hyper.method is Method.FULL:
        # Weights that move are float32, or small steps would be rounded away.
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
    return cast("PreTrainedModel", adapted)  # it forwards all that is used of one


def optimizer_for(model: PreTrainedModel, hyper: Hyperparameters) -> torch.optim.AdamW:
    """AdamW over what moves; weight decay spares biases and norms, as is usual."""
    moving = [parameter for parameter in model.parameters() if parameter.requires_grad]
    matrices = [parameter for parameter in moving if parameter.ndim > 1]
    vectors = [parameter for parameter in moving if parameter.ndim <= 1]
    groups = [
        {"params": matrices, "weight_decay": hyper.weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW([group for group in groups if group["params"]], lr=hyper.learning_rate, fused=True)
