"""Running out of memory, on any device, as one typed error."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from infra.errors import OutOfMemory


def is_out_of_memory(error: BaseException) -> bool:
    """Python's own, and torch's on CUDA (by its name, so that torch is not imported), on a CPU and on MPS."""
    named = any(base.__name__ in {"MemoryError", "OutOfMemoryError"} for base in type(error).__mro__)
    return named or "can't allocate memory" in str(error) or "backend out of memory" in str(error)


@contextmanager
def memory_errors(advice: str, *, field: str) -> Iterator[None]:
    """Raises OutOfMemory, which is tried again with a smaller batch, if memory cannot be allocated in the block."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise OutOfMemory(f"out of memory: {first_line(error)}; {advice}", field=field) from error


def first_line(error: BaseException) -> str:
    """What the error says in its first line, or its type."""
    return str(error).strip().partition("\n")[0] or type(error).__name__
