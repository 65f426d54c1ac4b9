"""The garbage collector, for a process that serves for days: most of what it looks at stays, or is gone already."""

from __future__ import annotations

import gc

YOUNG, MIDDLE, OLD = 50_000, 20, 50
"""Python's own 700, 10, 10 took a quarter of a busy control's time: every few messages it looked at all under way."""


def settle() -> None:
    """Call this once all is loaded: that is skipped from now on (50 ms a look), and looks become rarer."""
    gc.freeze()
    gc.set_threshold(YOUNG, MIDDLE, OLD)
