"""What a training leaves: a Hugging Face folder or a PEFT adapter, the tokenizer, and `training.json`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from contracts.options import Method, Stage
from infra.models.chat_format import ChatFormat
from trainer_worker.programs.training import Training
from trainer_worker.spec import TrainResult, TrainSpec

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def save_model(model: PreTrainedModel, spec: TrainSpec, dtype: torch.dtype, folder: Path) -> None:
    """Safetensors only. A full model is written in `dtype`, as its base was."""
    if spec.hyperparameters.method is Method.FULL:
        torch.nn.Module.to(model, dtype)
        model.save_pretrained(folder)
        return
    # Not a path of this machine; and peft would ask the hub about it, were embeddings left to "auto".
    model.peft_config["default"].base_model_name_or_path = str(spec.model)
    model.save_pretrained(folder, save_embedding_layers=False)
    (folder / "README.md").unlink()  # a form with nothing filled in


def save_tokenizer(tokenizer: PreTrainedTokenizerBase, chat: ChatFormat, spec: TrainSpec, folder: Path) -> None:
    """After `sft` with the template that was trained on, so that nothing serves the model with another."""
    if spec.hyperparameters.stage is Stage.SFT:
        tokenizer.chat_template = chat.template
    tokenizer.save_pretrained(folder)


def save_record(training: Training, spec: TrainSpec, result: TrainResult, folder: Path) -> None:
    """`training.json`: what was really done, with the curve of the loss."""
    record = {
        "model": str(spec.model),
        "seed": spec.seed,
        "hyperparameters": spec.hyperparameters.model_dump(mode="json"),
        "steps": training.step,
        "tokens": training.tokens,
        "device": training.device.type,
        "bfloat16": training.bfloat16,
        "metrics": result.metrics,
        "losses": training.history.points,
    }
    (folder / "training.json").write_text(json.dumps(record, indent=2))
