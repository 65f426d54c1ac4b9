from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from infra.errors import BadConfiguration
from infra.models import safetensors_header
from infra.models.safetensors_header import Stored, read_header

GOOD = {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}


def _write(folder: Path, header: Any, data: int = 24, length: int | None = None) -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    file = folder / "model.safetensors"
    file.write_bytes((len(text) if length is None else length).to_bytes(8, "little") + text + bytes(data))
    return file


def test_the_tensors_of_a_file_are_read(tmp_path: Path) -> None:
    file = _write(tmp_path, {"__metadata__": {"format": "pt"}, "a": GOOD})
    assert read_header(file, "m") == {"a": Stored("F32", (2, 3), 24)}


def test_what_the_library_writes_is_read(tmp_path: Path) -> None:
    tensors = {"b": np.zeros(3, np.float16), "a": np.zeros((2, 0), np.int64), "c": np.zeros(5, np.uint8)}
    save_file(tensors, tmp_path / "x.safetensors", {"format": "pt"})
    shapes = {name: tensor.shape for name, tensor in read_header(tmp_path / "x.safetensors", "m").items()}
    assert shapes == {"a": (2, 0), "b": (3,), "c": (5,)}


WRONG_TENSORS = [
    *({"dtype": "F33"}, {"dtype": 1}, {"dtype": []}, {"shape": [2, 4]}, {"shape": [2**62, 2**62]}, {"shape": [-2, -3]}),
    *({"shape": "23"}, {"shape": [2, 3.0]}, {"shape": [True, 6]}, {"shape": [1] * 17}, {"data_offsets": [8, 32]}),
    *({"data_offsets": [24, 0]}, {"data_offsets": [0]}, {"data_offsets": [0, "24"]}),
    {"data_offsets": [0, 48], "shape": [12]},
]


@pytest.mark.parametrize(
    "header",
    [
        *([], 1, b"", b"{", b"[" * 200_000, {"a": 1}, {"a": {}}, {"a": GOOD, "b": GOOD}),
        *({"a": GOOD | wrong} for wrong in WRONG_TENSORS),
    ],
)
def test_a_header_that_does_not_fit_is_refused(tmp_path: Path, header: Any) -> None:
    with pytest.raises(BadConfiguration, match=r"^model m: could not be loaded: .*model\.safetensors is damaged"):
        read_header(_write(tmp_path, header), "m")


@pytest.mark.parametrize("length", [0, 10**4, 2**40, 2**63, 2**64 - 1])
def test_a_length_that_is_no_headers_is_refused(tmp_path: Path, length: int) -> None:
    with pytest.raises(BadConfiguration, match="is damaged"):
        read_header(_write(tmp_path, {"a": GOOD}, length=length), "m")


def test_a_header_has_a_largest_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = _write(tmp_path, {"a": GOOD})
    monkeypatch.setattr(safetensors_header, "MAX_HEADER_BYTES", 20)
    with pytest.raises(BadConfiguration, match="its header should have"):
        read_header(file, "m")


def test_a_file_has_a_largest_number_of_tensors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = _write(
        tmp_path, {str(index): {"dtype": "U8", "shape": [0], "data_offsets": [0, 0]} for index in range(3)}, 0
    )
    monkeypatch.setattr(safetensors_header, "MAX_TENSORS", 2)
    with pytest.raises(BadConfiguration, match="it has 3 tensors, more than 2"):
        read_header(file, "m")


_numbers = st.integers(-1, 9) | st.sampled_from([2**31, 2**63, 2**64])
_tensors = st.fixed_dictionaries(
    {
        "dtype": st.sampled_from(["F32", "F16", "U8", "F4", "X"]),
        "shape": st.lists(_numbers, max_size=3),
        "data_offsets": st.lists(_numbers, min_size=2, max_size=2),
    }
)


@settings(max_examples=300)
@given(st.dictionaries(st.text(max_size=2), _tensors | st.just(GOOD), max_size=3), st.integers(0, 30))
def test_a_header_is_accepted_only_if_the_library_accepts_it(
    tmp_path_factory: pytest.TempPathFactory, header: dict[str, Any], data: int
) -> None:
    file = _write(tmp_path_factory.getbasetemp(), header, data)
    try:
        read_header(file, "m")
    except BadConfiguration:
        return
    with safe_open(file, "np"):
        pass


@given(st.binary(max_size=40))
def test_any_bytes_are_read_or_refused(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    file = tmp_path_factory.getbasetemp() / "any.safetensors"
    file.write_bytes(content)
    try:
        read_header(file, "m")
    except BadConfiguration:
        with pytest.raises(SafetensorError), safe_open(file, "np"):
            pass
