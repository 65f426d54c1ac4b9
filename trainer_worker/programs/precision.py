"""Choose the faster arithmetic on this device: bfloat16 autocast or float32."""

from __future__ import annotations

import time
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from transformers import PreTrainedModel

MIN_HIDDEN_SIZE = 256
"""Models with a smaller hidden size use float32 on a CPU, because casting costs as much as bfloat16 saves."""
MIN_SPEEDUP = 1.2
"""Minimum measured speed-up at which a CPU uses bfloat16."""


def use_bfloat16(model: PreTrainedModel, device: torch.device) -> bool:
    """Whether to use bfloat16: on a GPU if it supports it, on a CPU if a short measurement shows that it is faster."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    hidden = getattr(model.config, "hidden_size", 0)
    if device.type != "cpu" or hidden < MIN_HIDDEN_SIZE:
        return False
    return _seconds(torch.float32, hidden) > MIN_SPEEDUP * _seconds(torch.bfloat16, hidden)


def autocast(device: torch.device, *, bfloat16: bool) -> AbstractContextManager[object]:
    """Return the context manager for a forward pass."""
    return torch.autocast(device.type, dtype=torch.bfloat16) if bfloat16 else nullcontext()


def _seconds(dtype: torch.dtype, hidden: int) -> float:
    """Return the shortest time, in seconds, of three matrix products of a layer's size, casts included."""
    tokens, weights = torch.ones(256, hidden), torch.ones(hidden, 4 * hidden)
    times = []
    for _ in range(3):
        started = time.perf_counter()
        tokens.to(dtype) @ weights.to(dtype)
        times.append(time.perf_counter() - started)
    return min(times)
