"""Limits what a library builds for a model by its stored weights, because settings can describe a boundless model."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.nn.modules.module import (
    register_module_buffer_registration_hook,
    register_module_module_registration_hook,
    register_module_parameter_registration_hook,
)

from infra.models.plain_files import bad
from infra.models.safetensors_header import Stored

PARTS_PER_TENSOR, FREE_PARTS = 64, 20_000
"""Modules and tensors that may be built for each stored tensor, and in any case."""
NUMBERS_PER_BYTE, FREE_NUMBERS = 16, 2**26
"""Numbers that the built tensors may have for each stored byte, and in any case. They are registered several times
while a model is loaded, and quantized weights pack several into a byte."""


@contextmanager
def bounded_building(stored: Collection[Stored], name: str) -> Iterator[None]:
    """While in this context, raise BadConfiguration if far more modules or tensors are made than `stored` could fill.

    `name` is that of the model in the error. The context counts what the whole process builds.
    """
    budget = _Budget(stored, name)
    handles = (
        register_module_parameter_registration_hook(budget.tensor),
        register_module_buffer_registration_hook(budget.tensor),
        register_module_module_registration_hook(budget.part),
    )
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


class _Budget:
    def __init__(self, stored: Collection[Stored], name: str) -> None:
        self._name = name
        self._tensors = len(stored)
        self._bytes = sum(tensor.size for tensor in stored)
        self._parts = FREE_PARTS + PARTS_PER_TENSOR * self._tensors
        self._numbers = FREE_NUMBERS + NUMBERS_PER_BYTE * self._bytes

    def part(self, _module: torch.nn.Module, _key: str, _part: Any) -> None:  # noqa: ANN401  # a module or None
        """Count a module that is added to another."""
        self._parts -= 1
        if self._parts < 0:
            raise self._error("parts")

    def tensor(self, module: torch.nn.Module, key: str, tensor: torch.Tensor | None) -> None:
        """Count a parameter or buffer that is added to a module."""
        self.part(module, key, None)
        self._numbers -= 0 if tensor is None else tensor.numel()
        if self._numbers < 0:
            raise self._error("parameters")

    def _error(self, what: str) -> Exception:
        return bad(
            self._name,
            f"its settings describe far more {what} than its *.safetensors hold, "
            f"{self._tensors:,} tensors of {self._bytes:,} bytes together",
            "use the config.json that belongs to the weights",
        )
