"""Out of memory is distinguished from other errors on every device."""

from __future__ import annotations

import pytest
import torch

from infra.child.memory import memory_errors
from infra.errors import OutOfMemory

CPU = "[enforce fail at alloc_cpu.cpp:117] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to allocate"
MPS = "MPS backend out of memory (MPS allocated: 17.97 GiB, other allocations: 45.56 MiB)"


@pytest.mark.parametrize(
    "error",
    [MemoryError(), torch.OutOfMemoryError("CUDA out of memory.\nTried"), RuntimeError(CPU), RuntimeError(MPS)],
    ids=["python", "cuda", "cpu", "mps"],
)
def test_memory_that_cannot_be_allocated_is_a_typed_error_with_advice(error: Exception) -> None:
    with (
        pytest.raises(OutOfMemory, match=r"^out of memory: [^\n]+; take less$") as caught,
        memory_errors("take less", field="batch_size"),
    ):
        raise error
    assert caught.value.field == "batch_size"


@pytest.mark.parametrize("error", [RuntimeError("shapes do not match"), ValueError("no")])
def test_any_other_error_stays_what_it_is(error: Exception) -> None:
    with pytest.raises(type(error), match=str(error)), memory_errors("take less", field="batch_size"):
        raise error


def test_a_real_allocation_that_is_too_large_is_out_of_memory() -> None:
    with pytest.raises(OutOfMemory), memory_errors("take less", field="batch_size"):
        torch.empty(2**50, dtype=torch.uint8)
