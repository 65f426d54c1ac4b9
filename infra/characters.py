"""Classes of characters for regular expressions, by Unicode category."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator
from functools import cache

LAST_MARK = 0x1FFFF
"""Marks and symbols have smaller code points, except marks that choose variants of Chinese characters."""


@cache
def of_category(first: str) -> str:
    """Return the inside of a character class: all characters outside ASCII whose category begins with `first`."""
    found = (number for number in range(0x80, LAST_MARK + 1) if unicodedata.category(chr(number))[0] == first)
    return "".join(f"\\U{start:08x}-\\U{end:08x}" for start, end in _ranges(found))


def _ranges(numbers: Iterable[int]) -> Iterator[tuple[int, int]]:
    """Yield the first and last of each run of consecutive numbers."""
    start = last = -2
    for number in numbers:
        if number != last + 1:
            if start >= 0:
                yield start, last
            start = number
        last = number
    yield start, last
