"""Write the output: a Hugging Face model or a PEFT adapter, the tokenizer, and `training.json`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from contracts.options import Method, Stage
from infra.models.chat_format import ChatFormat
from trainer_worker.programs.training import Training
from trainer_worker.spec import TrainResult, TrainSpec

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def save_model(model: PreTrainedModel, spec: TrainSpec, dtype: torch.dtype, folder: Path) -> None:
    """Save the model as safetensors; a full model is saved in `dtype`, the type of its base."""
    if spec.hyperparameters.method is Method.FULL:
        torch.nn.Module.to(model, dtype)
        model.save_pretrained(folder)
        return
    # The model's name, not a path of this machine. With save_embedding_layers="auto", peft would look it up on the hub.
    model.peft_config["default"].base_model_name_or_path = str(spec.model)
    model.save_pretrained(folder, save_embedding_layers=False)
    (folder / "README.md").unlink()  # an empty template


def save_tokenizer(tokenizer: PreTrainedTokenizerBase, chat: ChatFormat, spec: TrainSpec, folder: Path) -> None:
    """Save the tokenizer, after `sft` with the chat template used in training, so that inference uses the same one."""
    if spec.hyperparameters.stage is Stage.SFT and not tokenizer.chat_template:
        tokenizer.chat_template = chat.template
    tokenizer.save_pretrained(folder)


def save_record(
    training: Training, spec: TrainSpec, result: TrainResult, set_aside: list[dict[str, Any]], folder: Path
) -> None:
    """Write `training.json`: the settings, the amount of training, the rows set aside and the loss curve."""
    record = {
        "model": str(spec.model),
        "seed": spec.seed,
        "hyperparameters": spec.hyperparameters.model_dump(mode="json"),
        "steps": training.step,
        "tokens": training.tokens,
        "device": training.device.type,
        "bfloat16": training.bfloat16,
        "metrics": result.metrics,
        "set_aside": set_aside,
        "losses": training.history.points,
    }
    (folder / "training.json").write_text(json.dumps(record, indent=2))
