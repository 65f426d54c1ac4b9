"""Ends a child process when its parent ends, and reserves its standard output for progress lines."""

from __future__ import annotations

import ctypes
import os
import select
import shutil
import signal
import sys
import threading
from typing import TextIO

PR_SET_PDEATHSIG = 1
READ_SIZE = 4096


def die_with_parent() -> None:
    """Make the kernel kill this process when its parent ends, even while a C extension holds the interpreter lock.

    If the parent has ended already, which closed the pipe of standard input, this process ends at once.
    """
    set_death_signal(signal.SIGKILL)
    stdin = select.poll()
    stdin.register(0, select.POLLHUP)
    if any(event & select.POLLHUP for _, event in stdin.poll(0)):
        os._exit(0)


def set_death_signal(number: signal.Signals | None, parent: int | None = None) -> None:
    """Make the kernel send this signal when the parent ends; None: no signal. No effect outside Linux.

    `parent` is the process id of the parent; if that has ended already, this process ends at once.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, number or 0)
    if parent not in {None, os.getppid()}:
        os._exit(0)


def dies_with_parent(death_signal: signal.Signals) -> list[str]:
    """A command prefix that makes the kernel send `death_signal` when this process ends, even if it is killed.

    `setpriv` sets the signal because Python code between fork and exec is unsafe beside other threads. The kernel sends
    it when the forking *thread* ends, so it is set only in the main thread, which ends with the process. On systems
    without setpriv (outside Linux), the servers of a killed process keep running.
    """
    setpriv = shutil.which("setpriv")
    if setpriv is None or threading.current_thread() is not threading.main_thread():
        return []
    return [setpriv, "--pdeathsig", death_signal.name.removeprefix("SIG"), "--"]


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
