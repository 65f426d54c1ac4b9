"""Write the output: a Hugging Face model or a PEFT adapter, the tokenizer, and `training.json`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from contracts.options import Method, Stage
from infra.models.chat_format import ChatFormat
from infra.models.layers import Layers, Source
from infra.models.saved_weights import saved_config, saved_dtype, tensor_dtypes
from trainer_worker.programs.combining import combine
from trainer_worker.programs.portable import add_old_config_names, use_old_tokenizer_names
from trainer_worker.programs.training import Training
from trainer_worker.spec import TrainResult, TrainSpec

if TYPE_CHECKING:
    import torch
    from peft import LoraConfig
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def save_model(model: PreTrainedModel, spec: TrainSpec, layers: Layers, folder: Path) -> None:
    """Save the whole model in the floating-point types of its base, or the adapter in float32, as safetensors.

    The adapter includes the adapters below it, so that it is loaded alone on the base that it names.
    """
    if spec.hyperparameters.method is Method.FULL:
        _save_whole(model, layers.base, folder)
        return
    config = cast("LoraConfig", model.peft_config["default"])
    config.base_model_name_or_path, config.revision = _recorded(layers.base), layers.base.revision
    # With save_embedding_layers="auto", peft would look the base up on the hub.
    model.save_pretrained(folder, save_embedding_layers=False)
    (folder / "README.md").unlink()  # an empty template
    combine(layers.folders, folder)


def _save_whole(model: PreTrainedModel, base: Source, folder: Path) -> None:
    dtype = saved_dtype(base)
    _restore_types(model, tensor_dtypes(base), dtype)
    for config in (model.config, *(getattr(model.config, name, None) for name in model.config.sub_configs)):
        if config is not None:
            config.dtype = dtype
    model.save_pretrained(folder)
    add_old_config_names(folder, saved_config(base))


def _restore_types(model: PreTrainedModel, own: Mapping[str, torch.dtype], other: torch.dtype) -> None:
    """Cast each tensor to its type in the base, and those that the base names otherwise to `other`."""
    for name, tensor in chain(model.named_parameters(), model.named_buffers()):
        if tensor.is_floating_point():
            tensor.data = tensor.data.to(own.get(name, other))


def _recorded(base: Source) -> str:
    """The base as peft and converters resolve it: the folder on this machine, or the hub id.

    A base in the object store has no place that both would find: `artifact:<prefix>` is neither a folder nor a valid
    hub id, so that loading fails until `treadle download` has written the base's folder instead.
    """
    return base.name if base.name.startswith("artifact:") else base.path_or_id


def save_tokenizer(tokenizer: PreTrainedTokenizerBase, chat: ChatFormat, spec: TrainSpec, folder: Path) -> None:
    """Save the tokenizer, after `sft` with the chat template used in training, so that inference uses the same one."""
    if spec.hyperparameters.stage is Stage.SFT and not tokenizer.chat_template:
        tokenizer.chat_template = chat.template
    tokenizer.save_pretrained(folder)
    use_old_tokenizer_names(folder)


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
