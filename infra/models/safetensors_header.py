"""Reads the header of a safetensors file, and checks that it describes the file's bytes: 8 bytes length, JSON, data."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from infra.models.plain_files import bad

LENGTH_BYTES = 8
MAX_HEADER_BYTES = 32 * 2**20
MAX_TENSORS = 200_000
"""Largest number of tensors in one file."""
MAX_DIMENSIONS = 16
METADATA = "__metadata__"
BITS = {
    "F4": 4,
    "F6_E2M3": 6,
    "F6_E3M2": 6,
    "BOOL": 8,
    "U8": 8,
    "I8": 8,
    "F8_E5M2": 8,
    "F8_E4M3": 8,
    "F8_E8M0": 8,
    "F8_E4M3FNUZ": 8,
    "F8_E5M2FNUZ": 8,
    "I16": 16,
    "U16": 16,
    "F16": 16,
    "BF16": 16,
    "I32": 32,
    "U32": 32,
    "F32": 32,
    "C64": 64,
    "F64": 64,
    "I64": 64,
    "U64": 64,
}
"""Bits of one number of each type."""


@dataclass(frozen=True, slots=True)
class Stored:
    """A tensor in a file: its type as safetensors names it, its shape, and its bytes."""

    dtype: str
    shape: tuple[int, ...]
    size: int


def read_header(file: Path, name: str) -> dict[str, Stored]:
    """The tensors of the file by their names; `name` is that of the model in error messages.

    Raises BadConfiguration if the header is too large, no JSON, or does not describe exactly the bytes after it.
    """
    header, data = _header(file, name)
    tensors = {key: value for key, value in header.items() if key != METADATA}
    if len(tensors) > MAX_TENSORS:
        raise _damaged(file, name, f"it has {len(tensors):,} tensors, more than {MAX_TENSORS:,}")
    end = 0
    stored = {}
    for key, value in sorted(tensors.items(), key=lambda item: _offsets(item[1])):
        tensor = _stored(value)
        if tensor is None or _offsets(value)[0] != end:
            raise _damaged(file, name, f"its header describes the tensor {key[:100]!r} wrongly")
        stored[key] = tensor
        end += tensor.size
    if end != data:
        raise _damaged(file, name, f"its header describes {end:,} bytes of tensors, but {data:,} follow it")
    return stored


def _header(file: Path, name: str) -> tuple[dict[str, Any], int]:
    """The header as JSON, and the number of bytes after it."""
    size = file.stat().st_size
    with file.open("rb") as stream:
        start = stream.read(LENGTH_BYTES)
        length = int.from_bytes(start, "little")
        if len(start) < LENGTH_BYTES or length > min(MAX_HEADER_BYTES, size - LENGTH_BYTES):
            raise _damaged(file, name, f"its header should have {length:,} bytes, of {size:,} in the whole file")
        content = stream.read(length)
    try:
        header = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise _damaged(file, name, "its header is not valid JSON") from error
    if not isinstance(header, dict):
        raise _damaged(file, name, "its header is not a JSON object")
    return header, size - LENGTH_BYTES - length


def _offsets(value: Any) -> tuple[int, int]:  # noqa: ANN401  # unchecked JSON
    """Where a tensor's bytes begin and end; (-1, -1) if the header does not say it."""
    match value:
        case {"data_offsets": [int(start), int(end)]} if 0 <= start <= end:
            return start, end
        case _:
            return -1, -1


def _stored(value: Any) -> Stored | None:  # noqa: ANN401  # unchecked JSON
    """The tensor; None if its type, shape and offsets do not fit."""
    start, end = _offsets(value)
    match value:
        case {"dtype": str(dtype), "shape": list(shape)} if dtype in BITS and start >= 0 and _is_shape(shape):
            fits = math.prod(shape) * BITS[dtype] == (end - start) * 8
            return Stored(dtype, tuple(shape), end - start) if fits else None
        case _:
            return None


def _is_shape(values: list[Any]) -> bool:
    return len(values) <= MAX_DIMENSIONS and all(type(value) is int and value >= 0 for value in values)


def _damaged(file: Path, name: str, fault: str) -> Exception:
    return bad(name, f"{file} is damaged: {fault}", "fetch or save it again")
