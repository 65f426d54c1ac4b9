"""What ties a child process to its parent: it dies when the parent does, and its standard output is kept clean."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
from typing import TextIO

PR_SET_PDEATHSIG = 1
READ = 4096


def die_with_parent() -> None:
    """Have the kernel kill this process when its parent goes, even while a C extension holds the interpreter."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def watch_parent() -> None:
    """End this process and its whole group when standard input ends: the parent is gone."""
    threading.Thread(target=_watch, name="lifeline", daemon=True).start()


def _watch() -> None:
    # read by descriptor: a daemon thread inside sys.stdin would hold its lock when the interpreter ends
    while os.read(0, READ):
        pass
    os.killpg(os.getpgrp(), signal.SIGKILL)


def read_line() -> str:
    """One line of standard input, without buffering what follows; empty at its end."""
    line = b""
    while not line.endswith(b"\n") and (byte := os.read(0, 1)):
        line += byte
    return line.decode().strip()


def reserve_stdout() -> TextIO:
    """Standard output for progress lines alone: whatever a library prints goes to standard error from now on."""
    sys.stdout.flush()
    progress = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    return progress
