"""Finds the weights that a folder holds: only `*.safetensors` files directly in it, whatever an index names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from infra.models.plain_files import MAX_FILE_BYTES, bad, is_plain_name, read_json
from infra.models.safetensors_header import Stored, read_header

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
INDEXES = "*.safetensors.index.json"
ENDING = ".safetensors"
EXPLICIT = "transformers_weights"
"""Setting of config.json by which transformers loads another file."""


def weight_files(folder: Path, name: str, config: dict[str, Any]) -> list[Path]:
    """The files that transformers loads from a whole model's folder, of which `config` is the config.json.

    Raises BadConfiguration if an index or the config names anything but `*.safetensors` files directly in the folder.
    """
    indexes(folder, name)
    explicit = config.get(EXPLICIT)
    if explicit is not None and not is_plain_name(explicit, ENDING) and not is_plain_name(explicit, INDEXES[1:]):
        raise bad(name, f"{EXPLICIT} in config.json is {explicit!r:.200}, no {ENDING} file in the folder", "remove it")
    first = explicit or next((known for known in (WEIGHTS, INDEX) if (folder / known).is_file()), None)
    if first is None:
        raise bad(name, f"the folder has neither {WEIGHTS} nor {INDEX}", "rename or convert its weights")
    names = sorted(indexed_names(folder / first, name)) if first.endswith(INDEXES[1:]) else [first]
    for file_name in names:
        if not (folder / file_name).is_file():
            raise bad(name, f"{folder / first} names {file_name}, which is not in the folder", "fetch the model again")
    return [folder / file_name for file_name in names]


def indexes(folder: Path, name: str) -> dict[Path, set[str]]:
    """The indexes in the folder with the names of their files; raises BadConfiguration as `indexed_names` does."""
    return {index: indexed_names(index, name) for index in sorted(folder.glob(INDEXES))}


def indexed_names(index: Path, name: str) -> set[str]:
    """The names of the files in an index. Raises BadConfiguration if one is no `*.safetensors` file of the folder."""
    content = read_json(index, name, MAX_FILE_BYTES)
    found = content.get("weight_map")
    if not isinstance(found, dict) or not found or not isinstance(content.get("metadata", {}), dict):
        raise bad(name, f"{index} has no weight_map from tensors to files", "save the model again")
    for tensor, file_name in found.items():
        if not is_plain_name(file_name, ENDING):
            fault = f"{index} names {file_name!r:.200} for the tensor {tensor!r:.100}"
            raise bad(name, fault, f"only {ENDING} files in the same folder are loaded; convert the weights to them")
    return set(found.values())


def stored_tensors(files: list[Path], name: str) -> dict[str, Stored]:
    """The tensors in the files by their names. Raises BadConfiguration if a file is damaged."""
    return {key: tensor for file in files for key, tensor in read_header(file, name).items()}
