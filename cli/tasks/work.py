"""Say how much of its time a task spent on work."""

from __future__ import annotations

from cli.durations import format_duration
from contracts.http import WorkView

MAX_SECONDS_SHOWN = 1000
"""Seconds from which a span is shown in larger units."""


def work_text(view: WorkView, *, so_far: bool) -> str | None:
    """Work, wall clock and overhead, e.g. `104.2 s of 121.0 s; overhead 14 %: imports, transfers and waiting`.

    `so_far` says that more attempts may follow. None if no attempt has reported its work.
    """
    if view.work_seconds is None or view.wall_seconds is None or view.overhead is None:
        return None
    lost = f", and {span_text(view.unreported_seconds)} of attempts that ended without a report"
    return (
        f"{span_text(view.work_seconds)} of {span_text(view.wall_seconds)}{' so far' if so_far else ''}; "
        f"overhead {view.overhead * 100:.0f} %: imports, transfers and waiting"
        f"{lost if view.unreported_seconds else ''}"
    )


def span_text(seconds: float | None) -> str:
    """A span of time, such as `104.2 s` or `1h59m`."""
    seconds = seconds or 0.0
    return f"{seconds:.1f} s" if seconds < MAX_SECONDS_SHOWN else format_duration(seconds)
