"""Integers in paths, queries, headers and forms, where pydantic would also take `1.0`, `1_000` and ` 1 `."""

from __future__ import annotations

from typing import Annotated

from pydantic import BeforeValidator


def _digits(value: object) -> object:
    if isinstance(value, str) and not (value.isascii() and value.isdigit()):
        raise ValueError(f"expected a whole number written in digits only, got {value[:40]!r}")
    return value


Digits = Annotated[int, BeforeValidator(_digits)]
"""An integer of at least 0 that is written in the digits 0 to 9."""
