"""Ends a child process when its parent ends, and reserves its standard output for progress lines."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
from typing import TextIO

PR_SET_PDEATHSIG = 1
READ_SIZE = 4096


def die_with_parent() -> None:
    """Make the kernel kill this process when its parent ends, even while a C extension holds the interpreter lock."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def watch_parent() -> None:
    """Kill this process and its whole group when standard input ends, because then the parent has ended."""
    threading.Thread(target=_watch, name="lifeline", daemon=True).start()


def _watch() -> None:
    # not sys.stdin: a daemon thread that reads it holds its lock when the interpreter exits
    while os.read(0, READ_SIZE):
        pass
    os.killpg(os.getpgrp(), signal.SIGKILL)


def read_line() -> str:
    """One line of standard input, without buffering the bytes after it; empty at the end of the input."""
    line = b""
    while not line.endswith(b"\n") and (byte := os.read(0, 1)):
        line += byte
    return line.decode().strip()


def reserve_stdout() -> TextIO:
    """A copy of standard output for progress lines; what libraries print goes to standard error from now on."""
    sys.stdout.flush()
    progress = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    return progress
