"""Reads how a base is saved: its configuration, and its floating-point types, not always those of computing."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from transformers.utils.hub import cached_file

from infra.models.folders import CONFIG
from infra.models.layers import Source

TYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
"""Names in safetensors; smaller types are of quantized models, which compute in one of these."""
WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"


def saved_config(base: Source) -> dict[str, Any]:
    """The content of the base's config.json."""
    config: dict[str, Any] = json.loads((_folder(base) / CONFIG).read_bytes())
    return config


def saved_dtype(base: Source) -> torch.dtype:
    """The type of most bytes among the floating-point tensors; if there are none, that of config.json, else float32."""
    sizes = Counter[str]()
    for tensor in _tensors(base).values():
        start, end = tensor["data_offsets"]
        sizes[tensor["dtype"]] += end - start
    return TYPES[max(sizes, key=lambda name: sizes[name])] if sizes else _configured(saved_config(base))


def tensor_dtypes(base: Source) -> dict[str, torch.dtype]:
    """The type of each floating-point tensor, by its name in the base's files."""
    return {name: TYPES[tensor["dtype"]] for name, tensor in _tensors(base).items()}


def _folder(base: Source) -> Path:
    """The folder of the base, which is loaded already: of a base on the hub, its folder in the cache."""
    if base.folder:
        return base.folder
    file = cached_file(base.path_or_id, CONFIG, revision=base.revision, local_files_only=True)
    assert file is not None  # loading has read it
    return Path(file).parent


def _weights(folder: Path) -> Iterable[Path]:
    """The files that transformers loads."""
    if (folder / WEIGHTS).is_file():
        return [folder / WEIGHTS]
    if (folder / INDEX).is_file():
        return [folder / name for name in set(json.loads((folder / INDEX).read_bytes())["weight_map"].values())]
    return folder.glob("*.safetensors")


def _tensors(base: Source) -> dict[str, dict[str, Any]]:
    """The headers of all floating-point tensors in the base's safetensors files, by name."""
    headers = [header for file in _weights(_folder(base)) for header in _header(file).items()]
    return {name: tensor for name, tensor in headers if tensor.get("dtype") in TYPES}


def _header(file: Path) -> dict[str, dict[str, Any]]:
    with file.open("rb") as stream:
        header: dict[str, dict[str, Any]] = json.loads(stream.read(int.from_bytes(stream.read(8), "little")))
    return header


def _configured(config: dict[str, Any]) -> torch.dtype:
    """The type that config.json names; the text model in a larger model has a config of its own."""
    known = {str(dtype).removeprefix("torch."): dtype for dtype in TYPES.values()}
    text = config.get("text_config") or {}
    named = (str(part.get(key)).removeprefix("torch.") for part in (config, text) for key in ("dtype", "torch_dtype"))
    return next((known[name] for name in named if name in known), torch.float32)
