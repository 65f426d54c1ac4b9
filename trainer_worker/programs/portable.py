"""Make the saved files readable by transformers 4 too, which knows some settings by other names.

Without its names for the rotary embeddings, transformers 4 would compute them with its default, and answer wrongly.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from infra.models.folders import CONFIG, TOKENIZER_CONFIG

ROTARY_NAMES = ("rope_theta", "rope_scaling", "rope_local_base_freq", "partial_rotary_factor")
"""Settings that transformers 5 reads and writes as `rope_parameters`."""
Json = dict[str, Any]
LOCAL = ("is_local", "local_files_only")
"""Settings of how the tokenizer was loaded here."""


def add_old_config_names(folder: Path, base: Json) -> None:
    """Add the older names to the saved config: of the floating-point type, and of what the base's config has."""
    _rewrite(folder / CONFIG, lambda config: _with_old_names(config, base))


def use_old_tokenizer_names(folder: Path) -> None:
    """Name the class and the special tokens of the saved tokenizer as both versions know them."""
    _rewrite(folder / TOKENIZER_CONFIG, _with_old_tokenizer_names)


def _rewrite(file: Path, change: Callable[[Json], Json]) -> None:
    file.write_text(json.dumps(change(json.loads(file.read_bytes())), indent=2, ensure_ascii=False) + "\n")


def _with_old_names(config: Json, base: Json) -> Json:
    rotary = {name: base[name] for name in ROTARY_NAMES if name in base and name not in config}
    dtype = {"torch_dtype": config["dtype"]} if "dtype" in config else {}
    parts = {
        name: _with_old_names(part, base[name])
        for name, part in config.items()
        if name.endswith("_config") and isinstance(part, dict) and isinstance(base.get(name), dict)
    }
    return config | parts | dtype | rotary


def _with_old_tokenizer_names(config: Json) -> Json:
    kept = {name: value for name, value in config.items() if name not in LOCAL}
    if kept.get("tokenizer_class") == "TokenizersBackend":
        kept["tokenizer_class"] = "PreTrainedTokenizerFast"
    if isinstance(kept.get("extra_special_tokens"), list):
        kept["additional_special_tokens"] = kept.pop("extra_special_tokens")
    return kept
