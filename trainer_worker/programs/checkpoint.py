"""Write and read checkpoints: folders `step-<n>` from which a training resumes, on a CPU with bit-identical results.

A checkpoint is only safetensors and JSON, so that reading it executes no code. It is written to a temporary folder,
synced, completed with a manifest of sizes and digests, and renamed.
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

KEPT_CHECKPOINTS = 2
"""Number of newest checkpoints that are kept."""
WEIGHTS, OPTIMIZER, RANDOM, STATE = "weights.safetensors", "optimizer.safetensors", "random.safetensors", "state.json"


class TrainingState(BaseModel):
    """The part of a training's state that is not tensors."""

    fingerprint: str
    """Hash of the spec and the rows; the checkpoint is valid only for these."""
    step: int
    epoch: int
    index: int
    tokens: int
    padded: int
    bfloat16: bool
    losses: Snapshot
    generators: dict[str, Any]


def save(training: Training, fingerprint: str, folder: Path) -> Path:
    """Write `folder/step-<n>` and remove older checkpoints.

    Raises BadConfiguration if the loss is NaN or infinite.
    """
    training.history.recent()  # raises if the training has diverged, so that such weights are not kept
    target = folder / f"step-{training.step}"
    temporary = folder / f".{target.name}"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    _write(training, fingerprint, temporary)
    _write_manifest(temporary)
    if target.exists():
        shutil.rmtree(target)
    temporary.rename(target)
    _sync(folder)
    for old in _steps(folder)[:-KEPT_CHECKPOINTS]:
        shutil.rmtree(old)
    return target


def restore(training: Training, fingerprint: str, folder: Path) -> None:
    """Restore the checkpoint in `folder`. Raises BadConfiguration if it belongs to another spec or other rows."""
    state = TrainingState.model_validate_json((folder / STATE).read_bytes())
    if state.fingerprint != fingerprint:
        raise BadConfiguration(
            "the checkpoint was written by a training with other rows, another model or other hyper-parameters; "
            "resume with those, or start without resume_from",
            field="resume_from",
        )
    _load_weights(training, load_file(folder / WEIGHTS), load_file(folder / OPTIMIZER))
    training.step, training.tokens, training.padded = state.step, state.tokens, state.padded
    training.stream.epoch, training.stream.index = state.epoch, state.index
    training.bfloat16 = state.bfloat16
    training.history.restore(state.losses)
    random_state.restore(load_file(folder / RANDOM), state.generators)


def latest(*folders: Path) -> Path | None:
    """Return the complete checkpoint with the most steps among the given folders and their `step-<n>` subfolders."""
    states = {folder: _read_state(folder) for parent in folders for folder in (parent, *_steps(parent))}
    steps = {folder: state.step for folder, state in states.items() if state}
    return max(steps, key=lambda folder: steps[folder], default=None)


def _write(training: Training, fingerprint: str, folder: Path) -> None:
    trainable = _trainable(training)
    tensors, generators = random_state.capture()
    state = TrainingState(
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
    save_file({name: parameter.detach().contiguous() for name, parameter in trainable.items()}, folder / WEIGHTS)
    save_file(
        {
            f"{part}/{name}": value.contiguous()
            for name, parameter in trainable.items()
            for part, value in training.optimizer.state[parameter].items()
        },
        folder / OPTIMIZER,
    )
    save_file(tensors, folder / RANDOM)
    (folder / STATE).write_text(state.model_dump_json())


def _load_weights(training: Training, weights: dict[str, torch.Tensor], optimizer: dict[str, torch.Tensor]) -> None:
    trainable = _trainable(training)
    with torch.no_grad():
        for name, parameter in trainable.items():
            parameter.copy_(weights[name])
    for key, value in optimizer.items():
        part, _, name = key.partition("/")
        training.optimizer.state[trainable[name]][part] = value.to(trainable[name].device)


def _trainable(training: Training) -> dict[str, torch.nn.Parameter]:
    return {name: parameter for name, parameter in training.model.named_parameters() if parameter.requires_grad}


def _steps(folder: Path) -> list[Path]:
    """Return the `step-<n>` folders in ascending order of steps."""
    return sorted(folder.glob("step-*"), key=lambda path: int(path.name.removeprefix("step-")))


def _write_manifest(folder: Path) -> None:
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


def _read_state(folder: Path) -> TrainingState | None:
    """Return the state of a complete checkpoint, or None if a file is missing or truncated."""
    try:
        for name in (WEIGHTS, OPTIMIZER, RANDOM):
            with safe_open(folder / name, "pt"):
                pass  # opening compares the header with the length of the file
        return TrainingState.model_validate_json((folder / STATE).read_bytes()) if _is_complete(folder) else None
    except (OSError, SafetensorError, ValidationError):
        return None


def _is_complete(folder: Path) -> bool:
    """Whether every file has its size in the manifest; a downloaded checkpoint has none, as the download checked it."""
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
