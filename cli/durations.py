"""Time spans as text, such as `1h30m`."""

from __future__ import annotations

import re

import typer

UNITS = {"d": 86400, "h": 3600, "m": 60, "s": 1}
START_IN = "Start the task after this time, such as 45s, 30m, 2h or 1h30m."
LIMIT = "End an attempt at this phase after this time, such as 2h, and try again from its newest checkpoint."
STALL_LIMIT = "End an attempt that makes no progress for this time, such as 30m, and try again; 1h by default."

_PART = re.compile(r"(\d+)([dhms])")


def seconds(text: str) -> float:
    """The seconds in a text such as `1h30m`. Raises BadParameter if it is not a time span."""
    if not text or _PART.sub("", text):
        raise typer.BadParameter(f"expected a time such as 45s, 30m, 2h or 1h30m, found {text!r}")
    return float(sum(int(number) * UNITS[unit] for number, unit in _PART.findall(text)))


def limit(text: str) -> float:
    """The seconds in a text such as `2h`. Raises BadParameter if it is not a time span of at least a second."""
    span = seconds(text)
    if span < 1:
        raise typer.BadParameter(f"expected at least 1s, found {text!r}")
    return span


def format_duration(span: float) -> str:
    """Format a span of seconds in its two largest units, such as `1h59m`."""
    left, parts = max(0, round(span)), list[str]()
    for unit, size in UNITS.items():
        count, left = divmod(left, size)
        if count or parts:
            parts.append(f"{count}{unit}")
    return "".join(parts[:2]) or "0s"
