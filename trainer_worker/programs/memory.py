"""Running out of memory as a typed error."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from infra.errors import OutOfMemory


@contextmanager
def memory_errors(tokens_per_batch: int) -> Iterator[None]:
    """Raises OutOfMemory, which is tried again, where torch cannot allocate on any device."""
    try:
        yield
    except RuntimeError as error:
        # On a CPU torch raises a plain RuntimeError; its allocator's name is the only mark.
        if not isinstance(error, torch.OutOfMemoryError) and "DefaultCPUAllocator" not in str(error):
            raise
        raise OutOfMemory(
            f"too little memory to train with {tokens_per_batch} tokens a batch: {str(error).splitlines()[0]}; "
            "lower tokens_per_batch or max_length, or use method lora",
            field="tokens_per_batch",
        ) from error
