"""The matrices of a combined adapter give the sum of the changes that its parts make."""

from __future__ import annotations

import json
import math
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from trainer_worker.programs.combining import combine

WIDTH, HEIGHT = 6, 5
MODULES = ("model.layers.0.q_proj", "model.layers.1.q_proj", "lm_head")
Part = tuple[int, int, bool, set[str]]
"""Rank, alpha, rsLoRA, and the modules that an adapter changes."""
PARTS = st.lists(
    st.tuples(st.integers(1, 7), st.integers(1, 64), st.booleans(), st.sets(st.sampled_from(MODULES), min_size=1)),
    min_size=1,
    max_size=4,
)


def _write(folder: Path, part: Part) -> Path:
    rank, alpha, rslora, modules = part
    tensors = {}
    for module in modules:
        tensors[f"base_model.model.{module}.lora_A.weight"] = torch.randn(rank, WIDTH)
        tensors[f"base_model.model.{module}.lora_B.weight"] = torch.randn(HEIGHT, rank)
    folder.mkdir()
    save_file(tensors, folder / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "r": rank, "lora_alpha": alpha, "use_rslora": rslora, "target_modules": [*modules]}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return folder


def _changes(folder: Path) -> dict[str, torch.Tensor]:
    """What the adapter adds to the matrix of each module."""
    config = json.loads((folder / "adapter_config.json").read_text())
    scale = config["lora_alpha"] / (math.sqrt(config["r"]) if config["use_rslora"] else config["r"])
    weights = {
        name.removeprefix("base_model.model."): part
        for name, part in load_file(folder / "adapter_model.safetensors").items()
    }
    modules = {name.rpartition(".lora_")[0] for name in weights}
    return {name: scale * weights[f"{name}.lora_B.weight"] @ weights[f"{name}.lora_A.weight"] for name in modules}


@given(below=PARTS, new=PARTS.map(lambda parts: parts[0]), seed=st.integers(0, 1000))
@settings(deadline=None, max_examples=60)
def test_a_combined_adapter_changes_every_module_by_the_sum_of_its_parts(
    below: list[Part], new: Part, seed: int
) -> None:
    torch.manual_seed(seed)
    with TemporaryDirectory() as name:
        folders = [_write(Path(name) / str(number), part) for number, part in enumerate([*below, new])]
        parts = [_changes(folder) for folder in folders]
        combine(folders[:-1], folders[-1])
        combined = _changes(folders[-1])
    assert combined.keys() == set().union(*parts)
    for module, change in combined.items():
        expected = sum((part.get(module, torch.zeros(HEIGHT, WIDTH)) for part in parts), torch.zeros(HEIGHT, WIDTH))
        assert torch.allclose(change, expected, rtol=1e-4, atol=1e-3)
