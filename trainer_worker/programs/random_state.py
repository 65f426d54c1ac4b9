"""Save and restore the state of every random number generator that a training uses."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch


def capture() -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Return torch's states as tensors, and Python's and NumPy's as JSON values."""
    tensors = {"cpu": torch.get_rng_state()}
    for index in range(torch.cuda.device_count()):
        tensors[f"cuda-{index}"] = torch.cuda.get_rng_state(index)
    version, state, gauss = random.getstate()
    _, keys, *rest = np.random.get_state(legacy=True)  # libraries use the legacy generator
    return tensors, {"python": [version, list(state), gauss], "numpy": [np.asarray(keys).tolist(), *rest]}


def restore(tensors: dict[str, torch.Tensor], others: dict[str, Any]) -> None:
    """Restore every generator to a state that `capture` returned."""
    torch.set_rng_state(tensors["cpu"])
    for index in range(torch.cuda.device_count()):
        if f"cuda-{index}" in tensors:
            torch.cuda.set_rng_state(tensors[f"cuda-{index}"], index)
    version, state, gauss = others["python"]
    random.setstate((version, tuple(state), gauss))
    keys, *rest = others["numpy"]
    np.random.set_state(("MT19937", np.asarray(keys, dtype=np.uint32), *rest))  # as in `capture`
