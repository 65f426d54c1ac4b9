"""Which arithmetic is faster here without harm: bfloat16 autocast, or plain float32."""

from __future__ import annotations

import time
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from transformers import PreTrainedModel

WORTH_A_PROBE = 256
"""Hidden size below which a CPU gains nothing from bfloat16: casting costs as much as the product saves."""
CLEARLY = 1.2


def bfloat16_pays(model: PreTrainedModel, device: torch.device) -> bool:
    """True on a GPU that has bfloat16; on a CPU what a probe of some ten milliseconds measures."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    hidden = getattr(model.config, "hidden_size", 0)
    if device.type != "cpu" or hidden < WORTH_A_PROBE:
        return False
    return _seconds(torch.float32, hidden) > CLEARLY * _seconds(torch.bfloat16, hidden)


def autocast(device: torch.device, *, bfloat16: bool) -> AbstractContextManager[object]:
    """The context that a forward pass runs in."""
    return torch.autocast(device.type, dtype=torch.bfloat16) if bfloat16 else nullcontext()


def _seconds(dtype: torch.dtype, hidden: int) -> float:
    """The best of three products of the size that a layer makes, casts included."""
    tokens, weights = torch.ones(256, hidden), torch.ones(hidden, 4 * hidden)
    times = []
    for _ in range(3):
        started = time.perf_counter()
        tokens.to(dtype) @ weights.to(dtype)
        times.append(time.perf_counter() - started)
    return min(times)
