"""Ends Python code that a model's settings keep busy without end, for example by a regular expression."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def processor_time_limit(seconds: float, error: Exception) -> Iterator[None]:
    """Raise `error` in the main thread after `seconds` of processor time of this process; no limit in other threads.

    Python's code and its regular expressions are interrupted, calls of other libraries only when they return.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(_signal: int, _frame: FrameType | None) -> None:
        raise error

    before = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)
