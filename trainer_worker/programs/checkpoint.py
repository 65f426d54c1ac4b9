"""Checkpoints: folders `step-<n>` from which a training goes on as if it had never stopped, bit for bit on a CPU.

Safetensors and JSON only, so that reading one runs nothing. A folder is written beside its place, synced, closed
with a manifest of sizes and digests, and renamed.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file

from contracts.artifacts import MANIFEST, Manifest, ManifestFile
from infra.errors import BadConfiguration
from trainer_worker.programs import random_state
from trainer_worker.programs.history import Snapshot
from trainer_worker.programs.training import Training

KEEP = 2
WEIGHTS, OPTIMIZER, RANDOM, STATE = "weights.safetensors", "optimizer.safetensors", "random.safetensors", "state.json"


class State(BaseModel):
    """What of a training is not a tensor."""

    fingerprint: str
    """Of the spec and the rows: a checkpoint continues nothing else."""
    step: int
    epoch: int
    index: int
    tokens: int
    padded: int
    bfloat16: bool
    losses: Snapshot
    generators: dict[str, Any]


def save(training: Training, fingerprint: str, folder: Path) -> Path:
    """Write `folder/step-<n>` and remove all but the newest KEEP."""
    training.history.recent()  # never keep weights that have diverged
    place = folder / f"step-{training.step}"
    beside = folder / f".{place.name}"
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir(parents=True)
    _write(training, fingerprint, beside)
    _close(beside)
    if place.exists():
        shutil.rmtree(place)
    beside.rename(place)
    _sync(folder)
    for old in _steps(folder)[:-KEEP]:
        shutil.rmtree(old)
    return place


def restore(training: Training, fingerprint: str, folder: Path) -> None:
    """Go on from the checkpoint in `folder`. Raises BadConfiguration where another run wrote it."""
    state = State.model_validate_json((folder / STATE).read_bytes())
    if state.fingerprint != fingerprint:
        raise BadConfiguration(
            "the checkpoint was written by a run on other rows, another model or other hyper-parameters; "
            "resume with those, or start without resume_from",
            field="resume_from",
        )
    _load_weights(training, load_file(folder / WEIGHTS), load_file(folder / OPTIMIZER))
    training.step, training.tokens, training.padded = state.step, state.tokens, state.padded
    training.stream.epoch, training.stream.index = state.epoch, state.index
    training.bfloat16 = state.bfloat16
    training.history.restore(state.losses)
    random_state.restore(load_file(folder / RANDOM), state.generators)


def latest(*places: Path) -> Path | None:
    """The complete checkpoint of the most steps: in each place its `step-<n>` folders, or the place itself."""
    found = {folder: _readable(folder) for place in places for folder in (place, *_steps(place))}
    steps = {folder: state.step for folder, state in found.items() if state}
    return max(steps, key=lambda folder: steps[folder], default=None)


def _write(training: Training, fingerprint: str, folder: Path) -> None:
    moving = _moving(training)
    tensors, generators = random_state.capture()
    state = State(
        fingerprint=fingerprint,
        step=training.step,
        epoch=training.stream.epoch,
        index=training.stream.index,
        tokens=training.tokens,
        padded=training.padded,
        bfloat16=training.bfloat16,
        losses=training.history.snapshot(),
        generators=generators,
    )
    save_file({name: parameter.detach().contiguous() for name, parameter in moving.items()}, folder / WEIGHTS)
    save_file(
        {
            f"{part}/{name}": value.contiguous()
            for name, parameter in moving.items()
            for part, value in training.optimizer.state[parameter].items()
        },
        folder / OPTIMIZER,
    )
    save_file(tensors, folder / RANDOM)
    (folder / STATE).write_text(state.model_dump_json())


def _load_weights(training: Training, weights: dict[str, torch.Tensor], optimizer: dict[str, torch.Tensor]) -> None:
    moving = _moving(training)
    with torch.no_grad():
        for name, parameter in moving.items():
            parameter.copy_(weights[name])
    for key, value in optimizer.items():
        part, _, name = key.partition("/")
        training.optimizer.state[moving[name]][part] = value.to(moving[name].device)


def _moving(training: Training) -> dict[str, torch.nn.Parameter]:
    return {name: parameter for name, parameter in training.model.named_parameters() if parameter.requires_grad}


def _steps(folder: Path) -> list[Path]:
    """The finished `step-<n>` folders, in order."""
    return sorted(folder.glob("step-*"), key=lambda path: int(path.name.removeprefix("step-")))


def _close(folder: Path) -> None:
    """Sync every file, then write the manifest."""
    files = []
    for path in sorted(folder.iterdir()):
        _sync(path)
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        files.append(ManifestFile(name=path.name, size=path.stat().st_size, sha256=digest))
    (folder / MANIFEST).write_text(Manifest(files=tuple(files)).model_dump_json())
    _sync(folder / MANIFEST)
    _sync(folder)


def _readable(folder: Path) -> State | None:
    """The state in a complete checkpoint; None where a file is missing or cut off, and where there is none at all."""
    try:
        for name in (WEIGHTS, OPTIMIZER, RANDOM):
            with safe_open(folder / name, "pt"):
                pass  # it compares its header with the file's length
        return State.model_validate_json((folder / STATE).read_bytes()) if _is_whole(folder) else None
    except (OSError, SafetensorError, ValidationError):
        return None


def _is_whole(folder: Path) -> bool:
    """Whether every file has the size that the manifest says; a downloaded checkpoint was checked on its way."""
    path = folder / MANIFEST
    if not path.is_file():
        return not folder.name.startswith("step-")
    manifest = Manifest.model_validate_json(path.read_bytes())
    return all((folder / f.name).is_file() and (folder / f.name).stat().st_size == f.size for f in manifest.files)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
