"""Merges an adapter of peft into a model."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from peft import PeftConfig, PeftModel, PeftType
from safetensors import safe_open

from infra.errors import BadConfiguration
from infra.models.building import bounded_building
from infra.models.folders import ADAPTER_CONFIG, ADAPTER_WEIGHTS, adapter_tensors
from infra.models.library_errors import as_bad_configuration
from infra.models.plain_files import FIELD, bad
from infra.models.time_limit import processor_time_limit

if TYPE_CHECKING:
    from transformers import PreTrainedModel

PREFIX = "base_model.model."
"""What peft writes before the name of a module."""
MAX_SECONDS = 300
"""Processor time for putting an adapter on its base, which takes seconds."""
MAX_NAMED_TENSORS = 5
"""Largest number of tensors that an error names."""


def merge(model: PreTrainedModel, folder: Path, name: str) -> PreTrainedModel:
    """The model with the adapter in `folder` merged into its weights; peft checks the result for NaN.

    Raises BadConfiguration, which names the model by `name`, if the adapter and the model do not fit.
    """
    stored = adapter_tensors(folder, name)
    with (
        as_bad_configuration(f"model {name}: the adapter does not fit"),
        bounded_building(stored.values(), name),
        processor_time_limit(MAX_SECONDS, _endless(name)),
    ):
        config = PeftConfig.from_pretrained(str(folder))
        _require_mergeable(config, name)
        _resize(model, folder)
        embeddings = _embeddings(model)
        config.inference_mode = True
        adapted = PeftModel(model, config)
        result = adapted.load_adapter(str(folder), "default", torch_device="cpu")
    own = "an adapter that was trained on this base"
    require_none(result.missing_keys, f"model {name}: the adapter lacks tensors", expected=own)
    require_none(result.unexpected_keys, f"model {name}: the adapter has tensors without a place", expected=own)
    _untie(model, embeddings)
    with as_bad_configuration(f"model {name}: the adapter cannot be merged"):
        merged: PreTrainedModel = adapted.merge_and_unload(safe_merge=True)
    return merged


def _endless(name: str) -> BadConfiguration:
    return bad(
        name,
        f"finding the modules that the adapter changes takes more than {MAX_SECONDS} s of processor time",
        f"simplify the regular expressions in {ADAPTER_CONFIG}",
    )


def _require_mergeable(config: PeftConfig, name: str) -> None:
    if config.peft_type == PeftType.XLORA:
        raise BadConfiguration(
            f"model {name}: an adapter of type XLORA loads other adapters from the places that it names, and cannot be "
            "merged; expected LoRA or another adapter of weights",
            field=FIELD,
        )
    if config.is_prompt_learning:
        kind = str(config.peft_type).removeprefix("PeftType.")
        raise BadConfiguration(
            f"model {name}: an adapter of type {kind} changes prompts, not weights, and cannot be merged; "
            "expected LoRA or another adapter of weights",
            field=FIELD,
        )


def require_none(keys: Collection[str], sentence: str, *, expected: str) -> None:
    """Raise BadConfiguration with the sentence and the first of the tensors `keys` if there are any."""
    if keys:
        names = ", ".join(sorted(keys)[:MAX_NAMED_TENSORS]) + (" and more" if len(keys) > MAX_NAMED_TENSORS else "")
        raise BadConfiguration(f"{sentence}: {names}; expected {expected}", field=FIELD)


def _embeddings(model: PreTrainedModel) -> dict[str, torch.nn.Module]:
    """The modules of the input and output embeddings, by their names."""
    both = (model.get_input_embeddings(), model.get_output_embeddings())  # type: ignore[no-untyped-call]
    return {name: module for name, module in model.named_modules() if any(module is one for one in both)}


def _resize(model: PreTrainedModel, folder: Path) -> None:
    """Resize the embeddings if the adapter was trained on resized ones and holds them."""
    keys = {f"{PREFIX}{name}{part}.weight" for name in _embeddings(model) for part in ("", ".base_layer")}
    with safe_open(folder / ADAPTER_WEIGHTS, "pt") as file:
        rows = {file.get_slice(key).get_shape()[0] for key in keys & set(file.keys())}
    for count in rows - {model.get_input_embeddings().weight.shape[0]}:  # type: ignore[index]  # a matrix
        model.resize_token_embeddings(count, mean_resizing=False)


def _untie(model: PreTrainedModel, embeddings: Mapping[str, torch.nn.Module]) -> None:
    """Give the input and the output embeddings a matrix each if they share one and the adapter changes one of them.

    Merging would change both. `embeddings` are the modules before peft replaced those that the adapter changes. When
    peft merges, it writes into the model's configuration that they are not tied.
    """
    inside = {name: model.get_submodule(name) for name in embeddings}
    if all(inside[name] is module for name, module in embeddings.items()):
        return
    seen = set[torch.nn.Parameter]()
    for module in (part for whole in inside.values() for part in whole.modules()):
        for name, parameter in module.named_parameters(recurse=False):
            if parameter in seen:
                setattr(module, name, torch.nn.Parameter(parameter.detach().clone(), requires_grad=False))
            seen.add(parameter)
