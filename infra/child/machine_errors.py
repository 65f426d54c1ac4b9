"""Recognizes errors that are the machine's fault: its disk, its limits, its GPUs. Another worker may succeed."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator

DISK_AND_LIMITS = frozenset(
    {
        errno.ENOSPC,
        errno.EDQUOT,
        errno.EROFS,
        errno.EIO,
        errno.EMFILE,
        errno.ENFILE,
        errno.ESTALE,
        errno.ENODEV,
        getattr(errno, "EUCLEAN", errno.EIO),
    }
)
"""Error numbers of the system that say that a disk is full or broken, or that files cannot be opened any more."""
PROCESSES = frozenset({errno.EAGAIN, errno.ENOMEM})
"""Error numbers with which the system refuses to start a process."""
_LIBRARY_ERRORS = frozenset(
    {"AcceleratorError", "AssertionError", "Exception", "OperationalError", "RuntimeError", "SafetensorError"}
)
"""Names of the classes with which libraries wrap an error of the system or of a GPU; others may quote a user's text."""
_DISK_TEXT = re.compile(
    r"no space left on device|disk quota exceeded|read-only file system|input/output error|too many open files"
    r"|stale file handle|structure needs cleaning|database or disk is full|disk i/o error"
    r"|os error (?:5|19|23|24|28|30|116|117|122)\b",
    re.IGNORECASE,
)
_GPU_TEXT = re.compile(
    r"uncorrectable ECC error|no CUDA-capable device|No CUDA GPUs are available|Found no NVIDIA driver"
    r"|not compiled with CUDA enabled|CUDA driver initialization failed|CUDA-capable device\(s\) is/are busy"
    r"|hardware stack error|CUDA (?:error: )?unknown error|system not yet initialized"
    r"|driver version is insufficient|unsupported display driver|GPU is lost"
)
"""Errors of CUDA that no program causes. `illegal memory access`, `device-side assert` and `unspecified launch failure`
are left out, because a fault in a program or a model causes them too."""


def machine_fault(error: BaseException) -> BaseException | None:
    """The error in the chain of causes of `error` that is the machine's fault; None if there is none."""
    return next((cause for cause in causes(error) if _is_machine_fault(cause)), None)


def is_machine_fault_line(line: str) -> bool:
    """Whether the last line of a traceback, such as `OSError: [Errno 28] …`, is of an error of the machine."""
    name, _, text = line.partition(": ")
    name = name.rpartition(".")[2]
    if name in {"OSError", "BlockingIOError"}:
        return bool(_DISK_TEXT.search(text))
    return name in _LIBRARY_ERRORS and _is_machine_text(text)


def _is_machine_fault(error: BaseException) -> bool:
    if isinstance(error, OSError):
        return error.errno in DISK_AND_LIMITS or (error.errno is None and _is_machine_text(str(error)))
    return type(error).__name__ in _LIBRARY_ERRORS and _is_machine_text(str(error))


def _is_machine_text(text: str) -> bool:
    return bool(_DISK_TEXT.search(text) or _GPU_TEXT.search(text))


def causes(error: BaseException) -> Iterator[BaseException]:
    """The error, its cause, that one's cause and so on."""
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        yield current
        current = current.__cause__ or (None if current.__suppress_context__ else current.__context__)
