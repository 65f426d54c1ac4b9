"""Lengths of time as people type them."""

from __future__ import annotations

import re

SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_LENGTH = re.compile(r"(\d+(?:\.\d+)?)([smhd])")


def seconds(text: str, option: str) -> float:
    """`7d`, `12h`, `30m` or `45s` in seconds. Raises InvalidInput, naming the option."""
    match = _LENGTH.fullmatch(text.strip())
    if match is None:
        from contracts.errors import FieldError, InvalidInput

        message = f"expected a number and one of s, m, h, d, such as 7d or 12h, found {text!r}"
        raise InvalidInput((FieldError(field=option, message=message),))
    return float(match[1]) * SECONDS[match[2]]


def rough(length: float) -> str:
    """A length of time in its largest whole unit, such as `3 d`."""
    unit = next((name for name in "dhm" if length >= SECONDS[name]), "s")
    return f"{length / SECONDS[unit]:.0f} {unit}"
