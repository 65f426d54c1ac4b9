"""Checks the settings of a model before a library builds it, so that a few bytes cannot describe a boundless model."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from infra.models.plain_files import bad, is_plain_name

MAX_DEPTH = 32
"""Largest depth of nested settings."""
MAX_LAYERS = 10_000
MAX_COUNT = 2**20
"""Largest number of heads, experts, labels and other parts."""
MAX_SIZE = 2**27
"""Largest size of a vocabulary, a hidden state and other dimensions."""
_LAYERS = re.compile(r"(?!.*_(size|dim|id|ids|idx|eps|norm)$).*(layer|block|depth|stage)", re.ASCII)
_COUNTS = re.compile(r"(num|n)_(?!.*(position|ctx|embd|embedding|param|token|sample|step))", re.ASCII)
_SIZES = re.compile(r".*(_size|_dim|_width|_rank)$|dim$|r$|n_embd$|n_inner$|d_[a-z_]+$", re.ASCII)
_LIMITS = ((_LAYERS, MAX_LAYERS), (_COUNTS, MAX_COUNT), (_SIZES, MAX_SIZE))
IMPLEMENTATIONS = re.compile(r"_?(attn|experts)_implementation(_internal)?", re.ASCII)
"""Settings that can name code on the hub, as `org/kernel`."""


def require_bounded(config: dict[str, Any], file: Path, name: str, *, own_code: bool) -> None:
    """Raise BadConfiguration if a number of layers or a size is out of bounds, or a setting names code on the hub.

    `config` is the content of `file`; `name` is that of the model. Code is allowed if `own_code`.
    """
    for key, value in _settings(config, file, name):
        limit = _limit(key)
        if isinstance(value, int) and not isinstance(value, bool) and limit is not None and abs(value) > limit:
            raise bad(name, f"{key} in {file} is {value}, and at most {limit:,} is possible", "correct it")
        if not own_code and IMPLEMENTATIONS.fullmatch(key) and "/" in str(value):
            raise bad(name, f"{key} in {file} is {value!r:.200}, which names code on the hub", "remove it")


def require_own_files(config: dict[str, Any], file: Path, name: str) -> None:
    """Raise BadConfiguration if a `tokenizer_config.json` names files elsewhere, or arguments of the tokenizer."""
    files = config.get("fast_tokenizer_files", [])
    if not isinstance(files, list) or not all(is_plain_name(entry, ".json") for entry in files):
        raise bad(name, f"fast_tokenizer_files in {file} names no files of the folder: {files!r:.200}", "remove it")
    if config.get("init_inputs"):
        raise bad(name, f"init_inputs in {file} is {config['init_inputs']!r:.200}, not empty", "remove it")


def _limit(key: str) -> int | None:
    return next((limit for pattern, limit in _LIMITS if pattern.match(key)), None)


def _settings(config: dict[str, Any], file: Path, name: str) -> Iterator[tuple[str, Any]]:
    """Every setting at any depth, with the last name that leads to it.

    An implementation may be a mapping from parts of the model, which are then no names of settings.
    """
    left: list[tuple[str, Any, int]] = [("", config, 0)]
    while left:
        key, value, depth = left.pop()
        if depth > MAX_DEPTH:
            raise bad(name, f"{file} nests settings more than {MAX_DEPTH} deep", "save the model again")
        if isinstance(value, dict):
            names = key if IMPLEMENTATIONS.fullmatch(key) else None
            left += ((names or str(inner), item, depth + 1) for inner, item in value.items())
        elif isinstance(value, list):
            left += ((key, item, depth + 1) for item in value)
        else:
            yield key, value
