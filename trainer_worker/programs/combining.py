"""Combines the adapters below a new one with it, so that the new one alone, on the plain base, is the trained model.

Low-rank adapters add up: their matrices, one after another, are one adapter whose rank is the sum of their ranks.
"""

from __future__ import annotations

import dataclasses
import json
import math
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from peft import LoraConfig
from peft.utils.other import get_pattern_key
from safetensors.torch import load_file, save_file

from infra.errors import BadConfiguration
from infra.models.adapters import PREFIX
from infra.models.folders import ADAPTER_CONFIG, ADAPTER_WEIGHTS
from infra.models.layers import Layers

if TYPE_CHECKING:
    from transformers import PreTrainedModel

UNDERSTOOD = {
    *("r", "lora_alpha", "rank_pattern", "alpha_pattern", "use_rslora", "lora_dropout", "init_lora_weights"),
    *("target_modules", "exclude_modules", "layers_to_transform", "layers_pattern", "modules_to_save"),
    *("peft_type", "task_type", "base_model_name_or_path", "revision", "inference_mode", "fan_in_fan_out"),
    *("auto_mapping", "peft_version"),
}
"""Settings of an adapter that are combined here, or that change nothing once it is trained."""
PLAIN_STARTS = (True, False, "gaussian", "orthogonal", "eva")
"""Values of init_lora_weights that leave the base's weights unchanged."""
_MATRIX = re.compile(r"(?P<module>.+)\.lora_(embedding_)?(?P<side>[AB])(\.weight)?")


@dataclasses.dataclass(frozen=True, slots=True)
class Adapter:
    """An adapter's settings, and its tensors by their names in its file."""

    config: dict[str, Any]
    tensors: dict[str, torch.Tensor]

    @classmethod
    def read(cls, folder: Path) -> Adapter:
        """Read the adapter in `folder`."""
        return cls(json.loads((folder / ADAPTER_CONFIG).read_bytes()), load_file(folder / ADAPTER_WEIGHTS))

    def low_rank(self) -> set[str]:
        """The modules that have low-rank matrices."""
        return {match["module"] for match in map(_MATRIX.fullmatch, self.tensors) if match}

    def copies(self) -> dict[str, torch.Tensor]:
        """The tensors that replace those of the base, for example trained embeddings."""
        return {key: tensor for key, tensor in self.tensors.items() if not _MATRIX.fullmatch(key)}

    def scale(self, module: str, rank: int) -> float:
        """The factor of the product of the two matrices of a module."""
        alphas: dict[str, float] = self.config.get("alpha_pattern") or {}
        own = get_pattern_key(list(alphas), module.removeprefix(PREFIX))
        alpha = float(alphas.get(own, self.config["lora_alpha"]))
        return alpha / (math.sqrt(rank) if self.config.get("use_rslora") else rank)


def require_combinable(layers: Layers, model: PreTrainedModel) -> None:
    """Raise BadConfiguration if an adapter cannot be combined exactly with the others and the new one of `model`."""
    modules = {name for name, _ in model.named_modules()}
    adapters = [Adapter.read(folder) for folder in layers.folders]
    new = {name.rpartition(".")[0] for name in modules if name.endswith(".lora_A")}
    changed = new.union(*(adapter.low_rank() for adapter in adapters))
    for source, adapter in zip(layers.adapters, adapters, strict=True):
        obstacle = _obstacle(adapter, modules) or _conflict(adapter, changed, lowest=adapter is adapters[0])
        if obstacle:
            raise BadConfiguration(
                f"the adapter {source.name} {obstacle}, so it and a new adapter cannot be saved as one; "
                "use method full, or merge it into its base first",
                field="method",
            )


def combine(folders: Sequence[Path], folder: Path) -> None:
    """Rewrite the new adapter in `folder` so that it includes those in `folders`, in this order, which lie below it."""
    if not folders:
        return
    adapters = [Adapter.read(below) for below in (*folders, folder)]
    matrices = _stacked(adapters)
    copies = {key: tensor for adapter in adapters for key, tensor in adapter.copies().items()}
    rank = max(matrix.shape[_rank_axis(key)] for key, matrix in matrices.items())
    padded = {key: _padded(matrix, rank, _rank_axis(key)) for key, matrix in matrices.items()}
    save_file(padded | copies, folder / ADAPTER_WEIGHTS, metadata={"format": "pt"})
    (folder / ADAPTER_CONFIG).write_text(json.dumps(_config(adapters, rank), indent=2, sort_keys=True))


def _obstacle(adapter: Adapter, modules: set[str]) -> str | None:
    """Why an adapter on a model with these modules cannot be combined, as part of a sentence; None if it can."""
    config, standard = adapter.config, dataclasses.asdict(LoraConfig())
    if config.get("peft_type") != "LORA":
        return f"is of type {config.get('peft_type')}"
    if unknown := [key for key in config if key not in UNDERSTOOD and config[key] and config[key] != standard.get(key)]:
        return f"uses {', '.join(unknown)}"
    if (start := config.get("init_lora_weights", True)) not in PLAIN_STARTS:
        return f"has init_lora_weights {start!r}, which changes its base"
    if elsewhere := adapter.low_rank() - modules:
        return f"names modules in another way than this version of transformers ({min(elsewhere)})"
    return None


def _conflict(adapter: Adapter, changed: set[str], *, lowest: bool) -> str | None:
    """Which module an adapter replaces although an adapter has low-rank matrices for it, as part of a sentence.

    If an adapter has low-rank matrices for the embeddings, peft saves its base's embeddings too. Those in the `lowest`
    adapter are the plain base's; those in the others include the changes of the adapters below.
    """
    replaced = {key.rpartition(".")[0] for key in adapter.copies()}
    if not lowest:
        replaced |= {name.removesuffix(".base_layer") for name in replaced}
    both = replaced & changed
    return f"replaces {min(both).removeprefix(PREFIX)}, which an adapter changes too" if both else None


def _stacked(adapters: Iterable[Adapter]) -> dict[str, torch.Tensor]:
    """The matrices of all adapters one after another, in float32; the scale of each is multiplied into its second."""
    parts = defaultdict[str, list[torch.Tensor]](list)
    for adapter in adapters:
        for key, tensor in adapter.tensors.items():
            if match := _MATRIX.fullmatch(key):
                scale = adapter.scale(match["module"], tensor.shape[1]) if match["side"] == "B" else 1
                parts[key].append(tensor.float() * scale)
    return {key: torch.cat(tensors, _rank_axis(key)) for key, tensors in parts.items()}


def _rank_axis(key: str) -> int:
    """The dimension of a matrix that is as long as the rank: the first of A, the second of B."""
    match = _MATRIX.fullmatch(key)
    assert match
    return 0 if match["side"] == "A" else 1


def _padded(matrix: torch.Tensor, rank: int, axis: int) -> torch.Tensor:
    """The matrix with zeros up to `rank`, because converters know only one rank for all modules."""
    shape = list(matrix.shape)
    shape[axis] = rank - shape[axis]
    return torch.cat([matrix, matrix.new_zeros(shape)], axis).contiguous()


def _config(adapters: Sequence[Adapter], rank: int) -> dict[str, Any]:
    """The settings of the combined adapter: those of the newest one, with one rank, and scale 1."""
    config = adapters[-1].config
    plain = {"r": rank, "lora_alpha": rank, "rank_pattern": {}, "alpha_pattern": {}, "use_rslora": False}
    copied = {name for adapter in adapters for name in adapter.config.get("modules_to_save") or ()}
    modules = set[str]().union(*(adapter.low_rank() for adapter in adapters))
    if modules != adapters[-1].low_rank():
        plain |= dict.fromkeys(("exclude_modules", "layers_to_transform", "layers_pattern"))
        plain["target_modules"] = sorted(module.removeprefix(PREFIX) for module in modules)
    return config | plain | {"modules_to_save": sorted(copied) or None}
