"""Checks the files of a model's folder before a library opens them: only regular files of the folder are ever read.

A link may lead to a file of the folder or, in a snapshot of the hub's cache, to the cache's `blobs`.
"""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Iterator
from fnmatch import fnmatch
from itertools import islice
from pathlib import Path
from typing import Any

from infra.errors import BadConfiguration

FIELD = "model"
MAX_ENTRIES = 10_000
"""Largest number of files and folders in a model's folder."""
MAX_CONFIG_BYTES = 16 * 2**20
"""Largest size of `config.json`, `adapter_config.json` and `generation_config.json`."""
MAX_FILE_BYTES = 256 * 2**20
"""Largest size of any other file that is no weights, for example `tokenizer.json`."""
MAX_TEMPLATE_BYTES = 2**20
"""Largest size of a chat template in a file of its own."""
WEIGHTS_ENDING = ".safetensors"
TEMPLATES = "additional_chat_templates"
"""The only folder in a model's folder from which transformers reads."""
NEVER_READ = (
    *("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl", "*.gguf", "*.onnx", "*.h5", "*.msgpack"),
    *("*.md", "*.png", "*.jpg", "*.pdf", "*.log", ".*", "LICENSE*", "optimizer.*", "scheduler.*", "rng_state*"),
)
"""Files that no library opens here, whatever they are, unless they have one of READ_ENDINGS; pickles among them."""
_SHARED_BLOB = re.compile(r"[0-9a-f]{2}/[0-9a-f]{64}")
READ_ENDINGS = (".json", ".safetensors", ".jinja", ".model", ".txt")
"""Endings of files that a library may open under any name, because an index or a setting can name them."""


def require_plain(folder: Path, name: str) -> None:
    """Raise BadConfiguration if the folder holds anything but small regular files in the places that are read.

    `name` is that of the model in error messages. Nothing is opened, so that a named pipe cannot block.
    """
    for file in _entries(folder, name):
        readable = file.name.endswith(READ_ENDINGS)
        if not readable and any(fnmatch(file.name, pattern) for pattern in NEVER_READ):
            continue
        if file.name == TEMPLATES and file.is_dir():
            _require_inside(file, folder, name)
            for template in _entries(file, name):
                _require_regular(template, folder, name)
        elif file.is_dir() and not readable:
            continue
        else:
            _require_regular(file, folder, name)


def read_json(file: Path, name: str, limit: int = MAX_CONFIG_BYTES) -> dict[str, Any]:
    """The JSON object in a file that `require_plain` has accepted. Raises BadConfiguration if it is none."""
    try:
        with file.open("rb") as stream:
            content = stream.read(limit + 1)
    except OSError as error:
        raise bad(name, f"{file} cannot be read: {error.strerror}", "let the worker's user read it") from error
    if len(content) > limit:
        raise bad(name, f"{file} is larger than {limit:,} bytes", "replace it with the model's own")
    try:
        value = json.loads(content)
    except (ValueError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise bad(name, f"{file} is not a JSON object: {reason}", "save the model again") from error
    if not isinstance(value, dict):
        raise bad(name, f"{file} is not a JSON object", "save the model again")
    return value


def is_plain_name(value: object, ending: str = "") -> bool:
    """Whether the value names a file directly in a folder: text without a path and not hidden, with this ending."""
    return (
        isinstance(value, str)
        and value.endswith(ending)
        and len(value) > len(ending)
        and not value.startswith(".")
        and not any(mark in value for mark in ("/", "\\", "\0", ".."))
        and value.isprintable()
    )


def bad(name: str, fault: str, fix: str) -> BadConfiguration:
    """The error about a file of the model `name`."""
    return BadConfiguration(f"model {name}: could not be loaded: {fault}; {fix}", field=FIELD)


def _entries(folder: Path, name: str) -> Iterator[Path]:
    with os.scandir(folder) as found:
        entries = [entry.name for entry in islice(found, MAX_ENTRIES + 1)]
    if len(entries) > MAX_ENTRIES:
        raise bad(name, f"{folder} holds more than {MAX_ENTRIES:,} files", "keep only the model's files in it")
    yield from (folder / entry for entry in sorted(entries))


def _require_regular(file: Path, folder: Path, name: str) -> None:
    """Raise BadConfiguration if the file is no regular file of the folder, or too large for its kind."""
    _require_inside(file, folder, name)
    found = file.stat()
    if not stat.S_ISREG(found.st_mode):
        raise bad(name, f"{file} is {_kind(found.st_mode)}, not a regular file", "replace it with the model's own")
    limit = _limit(file.name)
    if limit is not None and found.st_size > limit:
        fault = f"{file} has {found.st_size:,} bytes, and at most {limit:,} are read"
        raise bad(name, fault, "replace it with the model's own")


def _require_inside(file: Path, folder: Path, name: str) -> None:
    """Raise BadConfiguration if a link leads out of the folder, except into the blobs of its own hub cache."""
    root = folder.resolve()
    try:
        target = file.resolve(strict=True)
    except (OSError, RuntimeError) as error:  # links in a circle
        raise bad(name, f"{file} is a link that leads to no file", "copy the file into the folder") from error
    if not target.is_relative_to(root) and not _is_blob(target, root):
        raise bad(name, f"{file} is a link that leads out of the folder", "copy the file into the folder")


def _is_blob(target: Path, root: Path) -> bool:
    """Whether `root` is a snapshot in a cache of the hub, and `target` is where that cache keeps the contents.

    They are in `blobs` of the repository, or of the whole cache by their hashes.
    """
    repository = root.parent.parent
    if root.parent.name != "snapshots" or not repository.name.startswith("models--"):
        return False
    shared = repository.parent / "blobs"
    return target.is_relative_to(repository / "blobs") or (
        target.is_relative_to(shared) and bool(_SHARED_BLOB.fullmatch(target.relative_to(shared).as_posix()))
    )


def _limit(file_name: str) -> int | None:
    if file_name.endswith(WEIGHTS_ENDING):
        return None
    if file_name.endswith(".jinja"):
        return MAX_TEMPLATE_BYTES
    small = file_name.endswith("config.json") and file_name != "tokenizer_config.json"
    return MAX_CONFIG_BYTES if small else MAX_FILE_BYTES


def _kind(mode: int) -> str:
    kinds = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a named pipe", stat.S_IFSOCK: "a socket"}
    return kinds.get(stat.S_IFMT(mode), "a device")
