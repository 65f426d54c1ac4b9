"""Detects out-of-memory errors on any device and raises one typed error for them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from infra.errors import OutOfMemory


def is_out_of_memory(error: BaseException) -> bool:
    """Whether this is an out-of-memory error of Python, or of torch on CUDA, CPU or MPS; torch is not imported."""
    named = any(base.__name__ in {"MemoryError", "OutOfMemoryError"} for base in type(error).__mro__)
    return named or "can't allocate memory" in str(error) or "backend out of memory" in str(error)


@contextmanager
def memory_errors(advice: str, *, field: str) -> Iterator[None]:
    """Raises OutOfMemory, which is retried with a smaller batch, if memory cannot be allocated inside the block."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise OutOfMemory(f"out of memory: {first_line(error)}; {advice}", field=field) from error


def first_line(error: BaseException) -> str:
    """The first line of the error's text, or its type if it has no text."""
    return str(error).strip().partition("\n")[0] or type(error).__name__
