"""Settings of Python's garbage collector for a process that runs for days."""

from __future__ import annotations

import gc

YOUNG, MIDDLE, OLD = 50_000, 20, 50
"""Collection thresholds of the three generations. Python's own 700, 10, 10 collect every few messages under load."""


def tune_garbage_collection() -> None:
    """Exclude all existing objects from collection and collect less often; call this after everything is loaded."""
    gc.freeze()
    gc.set_threshold(YOUNG, MIDDLE, OLD)
