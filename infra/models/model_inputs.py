"""Converts a `ModelSource` to the artifacts to download and the location from which a program loads the model.

This module does not import torch, because workers use it; programs load with `infra.models.language_model`.
"""

from __future__ import annotations

from typing import Literal, TypeVar

from pydantic import BaseModel

from contracts.message import Frozen
from contracts.tasks import ModelSource

S = TypeVar("S", bound=BaseModel)
BASE = "base"
"""Name of the input with a base model from the object store."""


class ModelLocation(Frozen):
    """Where a program loads a model from; part of the programs' specs."""

    kind: Literal["path", "hub", "artifact"]
    name: str
    """The folder, the hub id or the prefix of the artifact, which is downloaded as the input `base`."""
    adapters: tuple[str, ...] = ()
    """Names of the inputs with adapters, merged in this order."""
    trust_remote_code: bool = False
    """Whether the code of a model on the hub may run; the worker's own setting decides."""

    def __str__(self) -> str:
        """The name of the model in error messages."""
        return f"{self.kind}:{self.name}"


def model_inputs(model: ModelSource) -> tuple[dict[str, str], ModelLocation]:
    """The artifacts to download, as input name to prefix, and the location of the model for the program."""
    kind, _, name = model.base.partition(":")
    adapters = {f"adapter-{index}": prefix for index, prefix in enumerate(model.adapters)}
    base = {BASE: name} if kind == "artifact" else {}
    return {**base, **adapters}, ModelLocation(kind=kind, name=name, adapters=tuple(adapters))


def with_hub_code(spec: S) -> S:
    """The spec with permission to run code for each of its fields that is the location of a model on the hub."""
    hub = {name: value for name, value in spec if isinstance(value, ModelLocation) and value.kind == "hub"}
    trusted = {name: value.model_copy(update={"trust_remote_code": True}) for name, value in hub.items()}
    return spec.model_copy(update=trusted)
