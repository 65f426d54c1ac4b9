"""Object store prefixes of artifacts, and the manifest that makes an artifact complete."""

from __future__ import annotations

import json
import re
from typing import Any, Literal
from uuid import UUID

from pydantic import Field

from contracts.message import Frozen
from contracts.tasks import AttemptKey, Phase

MANIFEST = "_MANIFEST.json"

FOLDER_OF = {
    Phase.OPTIMIZE: "optimized",
    Phase.TRAIN: "models",
    Phase.EVALUATE: "evaluations",
}
LOGS = "logs"


def attempt_prefix(key: AttemptKey) -> str:
    """The prefix under which only this attempt writes, without a trailing slash."""
    return f"{FOLDER_OF[key.phase]}/{key.task_id}/{key.iteration}/a{key.attempt}"


_UUID, _NUMBER = "[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", "[1-9][0-9]{0,8}"
_ATTEMPT_PREFIX = re.compile(rf"({'|'.join(FOLDER_OF.values())})/({_UUID})/({_NUMBER})/a({_NUMBER})")
_LOG_PART = re.compile(rf"{LOGS}/.+/(\d{{15}})\.txt")
_PHASE_OF = {folder: phase for phase, folder in FOLDER_OF.items()}


def attempt_of(prefix: str) -> AttemptKey | None:
    """The attempt whose prefix this is; None if it is the prefix of no attempt."""
    match = _ATTEMPT_PREFIX.fullmatch(prefix)
    if match is None:
        return None
    folder, task_id, iteration, attempt = match.groups()
    phase = _PHASE_OF[folder]
    return AttemptKey(task_id=UUID(task_id), iteration=int(iteration), phase=phase, attempt=int(attempt))


def checkpoint_prefix(key: AttemptKey, step: int) -> str:
    """The prefix of the checkpoint that an attempt wrote after `step` steps."""
    return f"{attempt_prefix(key)}/checkpoint-{step}"


def writer_of(checkpoint: str) -> AttemptKey | None:
    """The attempt that wrote the checkpoint with this prefix; None if it is the prefix of no checkpoint."""
    prefix, _, name = checkpoint.rpartition("/")
    return attempt_of(prefix) if re.fullmatch(r"checkpoint-[0-9]{1,18}", name) else None


def log_prefix(key: AttemptKey) -> str:
    """The prefix of the log of an attempt's program, without a trailing slash; only this attempt writes below it."""
    return f"{LOGS}/{key.task_id}/{key.iteration}/{key.phase}/a{key.attempt}"


def log_part(key: AttemptKey, start: int) -> str:
    """The object with the bytes of a log from byte `start` on, up to the next part or to bytes that are left out."""
    return f"{log_prefix(key)}/{start:015d}.txt"


def log_part_start(name: str) -> int | None:
    """The first byte of the log that this object has; None if it is no part of a log."""
    match = _LOG_PART.fullmatch(name)
    return int(match[1]) if match else None


def dataset_prefix(user_id: int, dataset_id: str) -> str:
    """The prefix of an uploaded dataset, without a trailing slash."""
    return f"datasets/{user_id}/{dataset_id}"


def optimized_dataset_id(task_id: UUID, iteration: int, attempt: int) -> str:
    """The id under which an optimizer's output is registered."""
    return f"{task_id}-{iteration}-a{attempt}"


def is_safe_name(name: str) -> bool:
    """Whether a file's name is a relative path that stays below its folder on any system."""
    parts = name.split("/")
    return all(parts) and not {".", ".."} & set(parts) and "\\" not in name and "\0" not in name


class ManifestFile(Frozen):
    """One file of an artifact; `name` is relative to the artifact's prefix."""

    name: str
    size: int = Field(ge=0)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


class Manifest(Frozen):
    """The list of an artifact's files, written after all of them: an artifact exists once its manifest does."""

    version: Literal[1] = 1
    files: tuple[ManifestFile, ...]
    event: dict[str, Any] | None = None
    """The completion event as published. If the worker dies before it publishes the event, control reads it here."""

    def event_bytes(self) -> bytes:
        """The completion event as the JSON body of a message."""
        return json.dumps(self.event).encode()

    @property
    def size(self) -> int:
        """Total bytes of all files."""
        return sum(file.size for file in self.files)
