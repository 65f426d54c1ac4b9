from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.errors import BadConfiguration
from infra.models.config_bounds import require_bounded, require_own_files
from infra.models.folders import adapter_tensors, model_tensors, require_safe
from infra.models.weights import indexed_names, weight_files

EMPTY = (2).to_bytes(8, "little") + b"{}"
INDEX = "model.safetensors.index.json"
ELSEWHERE = [
    *("pytorch_model.bin", "../../../../etc/passwd", "/etc/passwd", "sub/model.safetensors", "../model.safetensors"),
    *("/tmp/model.safetensors", ".safetensors", ".hidden.safetensors", "", 7, None, ["a.safetensors"], {}, True),
    *("model.safetensors\0", "a\\b.safetensors", "a.safetensors\n", "model.safetensors.bin", "https://x/a.safetensors"),
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "a.safetensors").write_bytes(EMPTY)
    (tmp_path / "pytorch_model.bin").write_bytes(b"a pickle")
    return tmp_path


def _index(folder: Path, content: Any, name: str = INDEX) -> None:
    (folder / name).write_text(json.dumps(content))


@pytest.mark.parametrize("entry", ELSEWHERE, ids=repr)
def test_an_index_names_only_safetensors_of_its_folder(folder: Path, entry: Any) -> None:
    _index(folder, {"metadata": {}, "weight_map": {"x": "a.safetensors", "the.tensor": entry}})
    with pytest.raises(BadConfiguration, match=rf"^model m: .*{INDEX} names .* for the tensor 'the.tensor'") as caught:
        model_tensors(folder, "m", own_code=False)
    assert repr(entry) in str(caught.value)


@pytest.mark.parametrize("name", ["adapter_model.safetensors.index.json", "x.safetensors.index.json", INDEX])
def test_every_index_in_a_folder_is_checked(folder: Path, name: str) -> None:
    (folder / "model.safetensors").write_bytes(EMPTY)
    _index(folder, {"weight_map": {"x": "pytorch_model.bin"}}, name)
    with pytest.raises(BadConfiguration, match=r"names 'pytorch_model\.bin'"):
        require_safe(folder, "m", own_code=False)


@pytest.mark.parametrize(
    "content", [{}, [], {"weight_map": {}}, {"weight_map": []}, {"weight_map": "a"}, {"metadata": 1, "weight_map": {}}]
)
def test_an_index_without_a_map_is_refused(folder: Path, content: Any) -> None:
    _index(folder, content)
    with pytest.raises(BadConfiguration, match=INDEX):
        model_tensors(folder, "m", own_code=False)


def test_an_index_that_names_a_missing_file_is_refused(folder: Path) -> None:
    _index(folder, {"metadata": {}, "weight_map": {"x": "b.safetensors"}})
    with pytest.raises(BadConfiguration, match=rf"{INDEX} names b\.safetensors, which is not in the folder"):
        model_tensors(folder, "m", own_code=False)


def test_the_weights_are_the_files_of_the_index(folder: Path) -> None:
    _index(folder, {"metadata": {}, "weight_map": {"x": "a.safetensors"}})
    assert weight_files(folder, "m", {}) == [folder / "a.safetensors"]


def test_one_file_goes_before_an_index(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(EMPTY)
    _index(folder, {"metadata": {}, "weight_map": {"x": "gone.safetensors"}})
    assert weight_files(folder, "m", {}) == [folder / "model.safetensors"]


def test_weights_of_another_name_are_refused_with_the_names_that_are_read(folder: Path) -> None:
    with pytest.raises(BadConfiguration, match=r"neither model\.safetensors nor model\.safetensors\.index\.json"):
        weight_files(folder, "m", {})


@pytest.mark.parametrize("entry", [entry for entry in ELSEWHERE if entry is not None], ids=repr)
def test_the_config_cannot_name_other_weights(folder: Path, entry: Any) -> None:
    with pytest.raises(BadConfiguration, match=r"transformers_weights in config\.json"):
        weight_files(folder, "m", {"transformers_weights": entry})


@given(st.dictionaries(st.text(max_size=3), st.text() | st.integers() | st.none(), min_size=1, max_size=3))
def test_no_index_leads_out_of_its_folder(tmp_path_factory: pytest.TempPathFactory, entries: dict[str, Any]) -> None:
    folder = tmp_path_factory.getbasetemp()
    _index(folder, {"weight_map": entries})
    try:
        names = indexed_names(folder / INDEX, "m")
    except BadConfiguration:
        return
    assert all(os.path.normpath(folder / name) == f"{folder}/{name}" for name in names)


def test_an_adapter_that_is_damaged_is_refused(folder: Path) -> None:
    (folder / "adapter_model.safetensors").write_bytes(EMPTY + b"more")
    with pytest.raises(BadConfiguration, match=r"adapter_model\.safetensors is damaged"):
        adapter_tensors(folder, "m")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *(("num_hidden_layers", 3_000_000), ("n_layer", 10**9), ("encoder_layers", 20_000), ("depths", 20_000)),
        *(
            ("num_labels", 10**9),
            ("num_experts", 10**8),
            ("hidden_size", 2**31),
            ("vocab_size", 2**40),
            ("n_embd", 2**30),
        ),
        *(("r", 2**30), ("num_hidden_layers", -3_000_000), ("num_attention_heads", 10**300)),
    ],
)
@pytest.mark.parametrize("nest", [lambda x: x, lambda x: {"text_config": x}, lambda x: {"a": [{"b": x}]}], ids="123")
def test_a_size_out_of_bounds_is_named(key: str, value: int, nest: Any) -> None:
    with pytest.raises(BadConfiguration, match=rf"^model m: .*{key} in config\.json is {value}, and at most"):
        require_bounded(nest({key: value}), Path("config.json"), "m", own_code=False)


def test_the_sizes_of_real_models_are_in_bounds() -> None:
    config = {
        "num_hidden_layers": 126, "hidden_size": 53_248, "vocab_size": 262_208, "rope_theta": 10**10,
        "num_experts": 512,
        "max_position_embeddings": 10_485_760, "n_positions": 2**31, "num_input_tokens_seen": 10**13, "bos_token_id": 1,
        "block_size": 2**20, "num_parameters": 10**12, "id2label": {str(n): "x" for n in range(1000)}, "tie": True,
        "layer_types": ["full_attention"] * 126, "_attn_implementation": "sdpa", "quantization_config": {"bits": 4},
    }  # fmt: skip
    require_bounded(config, Path("config.json"), "m", own_code=False)


def test_settings_have_a_largest_depth() -> None:
    config: dict[str, Any] = {}
    for _ in range(33):
        config = {"a": config}
    with pytest.raises(BadConfiguration, match="nests settings more than 32 deep"):
        require_bounded(config, Path("config.json"), "m", own_code=False)


@pytest.mark.parametrize("named", ["org/kernel", {"": "org/kernel"}, {"text_config": "org/kernel"}], ids=str)
def test_settings_cannot_name_code_on_the_hub(named: Any) -> None:
    config = {"text_config": {"attn_implementation": named}}
    with pytest.raises(BadConfiguration, match="which names code on the hub"):
        require_bounded(config, Path("config.json"), "m", own_code=False)
    require_bounded(config, Path("config.json"), "m", own_code=True)


@pytest.mark.parametrize(
    "config",
    [
        {"fast_tokenizer_files": ["../tokenizer.4.0.json"]},
        {"fast_tokenizer_files": "/etc/tokenizer.4.0.json"},
        {"init_inputs": ["/etc/passwd"]},
    ],
)
def test_a_tokenizer_cannot_name_files_elsewhere(config: dict[str, Any]) -> None:
    with pytest.raises(BadConfiguration, match=next(iter(config))):
        require_own_files(config, Path("tokenizer_config.json"), "m")
