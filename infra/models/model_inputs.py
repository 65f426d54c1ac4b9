"""Where a program finds a model: a `ModelSource` becomes inputs to download and a location to load from.

No torch here: handlers plan with it, programs load with `infra.models.language_model`.
"""

from __future__ import annotations

from typing import Literal

from contracts.message import Frozen
from contracts.tasks import ModelSource

BASE = "base"
"""Name of the input that holds a base model from the object store."""


class ModelLocation(Frozen):
    """A model as a job's program sees it; part of the programs' specs."""

    kind: Literal["path", "hub", "artifact"]
    name: str
    """The folder, the hub id or the artifact's prefix; an artifact lies in the input `base`."""
    adapters: tuple[str, ...] = ()
    """Names of the inputs that hold adapters, to be merged in this order."""
    trust_remote_code: bool = False

    def __str__(self) -> str:
        """The model's name as it stands in error messages."""
        return f"{self.kind}:{self.name}"


def model_inputs(model: ModelSource) -> tuple[dict[str, str], ModelLocation]:
    """The artifacts to download (input name to prefix), and where the program will find the model."""
    kind, _, name = model.base.partition(":")
    adapters = {f"adapter-{index}": prefix for index, prefix in enumerate(model.adapters)}
    base = {BASE: name} if kind == "artifact" else {}
    location = ModelLocation(
        kind=kind,
        name=name,
        adapters=tuple(adapters),
        trust_remote_code=model.trust_remote_code,
    )
    return {**base, **adapters}, location
