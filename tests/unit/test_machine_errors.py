"""Which errors are the machine's fault, and which are not."""

from __future__ import annotations

import errno
import os

import pytest

from infra.child.machine_errors import DISK_AND_LIMITS, is_machine_fault_line, machine_fault
from infra.errors import BadConfiguration, BadInput


def named(name: str, text: str) -> Exception:
    """An error of a library's class."""
    error: Exception = type(name, (Exception,), {})(text)
    return error


@pytest.mark.parametrize("number", sorted(DISK_AND_LIMITS))
def test_an_error_of_the_disk_is_the_machines_fault(number: int) -> None:
    assert machine_fault(OSError(number, os.strerror(number))) is not None


@pytest.mark.parametrize("number", [errno.ENOENT, errno.EACCES, errno.ENAMETOOLONG, errno.EISDIR])
def test_an_error_about_a_name_is_not(number: int) -> None:
    assert machine_fault(OSError(number, os.strerror(number))) is None


@pytest.mark.parametrize(
    "error",
    [
        named("SafetensorError", "Error while serializing: I/O error: No space left on device (os error 28)"),
        named("OperationalError", "database or disk is full"),
        Exception("No space left on device (os error 28)"),
        RuntimeError("[enforce fail at inline_container.cc:603] . PytorchStreamWriter: No space left on device"),
        RuntimeError("CUDA error: uncorrectable ECC error encountered"),
        RuntimeError("No CUDA GPUs are available"),
        named("AcceleratorError", "CUDA error: CUDA-capable device(s) is/are busy or unavailable"),
        AssertionError("Torch not compiled with CUDA enabled"),
    ],
    ids=str,
)
def test_an_error_of_a_library_is_recognized_by_its_text(error: Exception) -> None:
    assert machine_fault(error) is error


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("CUDA error: an illegal memory access was encountered"),
        RuntimeError("CUDA error: device-side assert triggered"),
        RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"),
        ValueError("line 3: no space left on device"),
        BadInput("row 7 says: No space left on device (os error 28)"),
        KeyError("read-only file system"),
    ],
    ids=repr,
)
def test_an_error_of_a_program_or_a_text_of_a_user_is_not(error: Exception) -> None:
    assert machine_fault(error) is None


def test_a_typed_error_is_the_machines_fault_if_its_cause_is() -> None:
    full = OSError(errno.ENOSPC, "No space left on device")
    error = BadConfiguration("the model could not be loaded")
    error.__cause__ = RuntimeError("it failed")
    error.__cause__.__context__ = full
    assert machine_fault(error) is full


def test_a_chain_of_causes_that_is_a_circle_ends() -> None:
    first, second = ValueError("a"), ValueError("b")
    first.__cause__, second.__cause__ = second, first
    assert machine_fault(first) is None


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("OSError: [Errno 28] No space left on device", True),
        ("safetensors_rust.SafetensorError: No space left on device (os error 28)", True),
        ("sqlite3.OperationalError: database or disk is full", True),
        ("ValueError: [Errno 28] No space left on device", False),
        ("[Errno 28] No space left on device", False),
        ("FileNotFoundError: [Errno 2] No such file or directory: 'x'", False),
    ],
)
def test_the_last_line_of_a_log_is_recognized(line: str, fault: bool) -> None:
    assert is_machine_fault_line(line) == fault
