"""Reads how a base is saved: its configuration, and its floating-point types, not always those of computing."""

from __future__ import annotations

from collections import Counter
from typing import Any

import torch

from infra.models.folders import CONFIG
from infra.models.layers import Source
from infra.models.plain_files import read_json
from infra.models.safetensors_header import Stored
from infra.models.weights import stored_tensors, weight_files

TYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
"""Names in safetensors; smaller types are of quantized models, which compute in one of these."""


def saved_config(base: Source) -> dict[str, Any]:
    """The content of the base's config.json."""
    return read_json(base.files / CONFIG, base.name)


def saved_dtype(base: Source) -> torch.dtype:
    """The type of most bytes among the floating-point tensors; if there are none, that of config.json, else float32."""
    sizes = Counter[str]()
    for tensor in _tensors(base).values():
        sizes[tensor.dtype] += tensor.size
    return TYPES[max(sizes, key=lambda name: sizes[name])] if sizes else _configured(saved_config(base))


def tensor_dtypes(base: Source) -> dict[str, torch.dtype]:
    """The type of each floating-point tensor, by its name in the base's files."""
    return {name: TYPES[tensor.dtype] for name, tensor in _tensors(base).items()}


def _tensors(base: Source) -> dict[str, Stored]:
    """The floating-point tensors in the base's safetensors files, by name."""
    files = weight_files(base.files, base.name, saved_config(base))
    return {name: tensor for name, tensor in stored_tensors(files, base.name).items() if tensor.dtype in TYPES}


def _configured(config: dict[str, Any]) -> torch.dtype:
    """The type that config.json names; the text model in a larger model has a config of its own."""
    known = {str(dtype).removeprefix("torch."): dtype for dtype in TYPES.values()}
    text = config.get("text_config") or {}
    named = (str(part.get(key)).removeprefix("torch.") for part in (config, text) for key in ("dtype", "torch_dtype"))
    return next((known[name] for name in named if name in known), torch.float32)
