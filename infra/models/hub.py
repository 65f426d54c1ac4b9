"""Fetches a model from the hub into its cache, so that it is checked and loaded like any folder.

A hub id is never given to `from_pretrained`, which would prefer a local folder of that name and choose files itself.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable
from pathlib import Path

from huggingface_hub import snapshot_download
from huggingface_hub.errors import LocalEntryNotFoundError

from infra.models.folders import ADAPTER_CONFIG, ADAPTER_WEIGHTS
from infra.models.hub_ids import HUB_RULE, is_hub_id, is_revision
from infra.models.library_errors import as_bad_configuration
from infra.models.plain_files import bad
from infra.models.weights import INDEX, WEIGHTS, indexed_names

SMALL_FILES = ["*.json", "*.jinja", "*.model", "*.txt", "*.tiktoken", "*.spm", "*.codes", "*.vocab"]
"""Files of a model that are neither weights nor code."""
CODE = ["*.py"]
IN_FOLDERS = ["*/*.json", "*/*.model", "*/*.txt"]
"""Files that other formats of a model need, for example `onnx/`."""


def fetch_settings(hub_id: str, revision: str | None, name: str, *, own_code: bool) -> Path:
    """Fetch everything but weights and return the folder in the cache; code is fetched only if `own_code`.

    `name` is that of the model in error messages. Raises BadConfiguration, also if the id is none.
    """
    if not is_hub_id(hub_id) or not is_revision(revision or "main"):
        raise bad(name, f"{hub_id!r:.200} at {revision or 'main'!r:.200} is no hub id", f"expected {HUB_RULE}")
    return _snapshot(hub_id, revision, [*SMALL_FILES, *(CODE if own_code else [])], name)


def fetch_adapter_weights(hub_id: str, revision: str | None, name: str) -> None:
    """Fetch the weights of an adapter whose settings are in the cache. Raises BadConfiguration."""
    _snapshot(hub_id, revision, [ADAPTER_CONFIG, ADAPTER_WEIGHTS], name)


def fetch_weights(hub_id: str, revision: str | None, folder: Path, name: str) -> None:
    """Fetch the weights of a whole model whose settings are in `folder`: one file, or those of its checked index.

    Raises BadConfiguration.
    """
    names: Iterable[str] = {WEIGHTS}
    if (folder / INDEX).is_file() and not (folder / WEIGHTS).is_file():
        names = indexed_names(folder / INDEX, name)
    _snapshot(hub_id, revision, [glob.escape(file_name) for file_name in names], name)


def _snapshot(hub_id: str, revision: str | None, patterns: list[str], name: str) -> Path:
    offline = os.environ.get("HF_HUB_OFFLINE", "") not in {"", "0"}
    where = ", in the local cache because HF_HUB_OFFLINE is set" if offline else ""
    with as_bad_configuration(f"model {name}: {hub_id} could not be loaded from the hub{where}"):
        try:
            return Path(
                snapshot_download(hub_id, revision=revision, allow_patterns=patterns, ignore_patterns=IN_FOLDERS)
            )
        except LocalEntryNotFoundError as error:
            if (incomplete := getattr(error, "snapshot_path", None)) is None:
                raise
            return Path(incomplete)  # what the model needs of it is checked later
