"""Splits text of any script into words."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator

LAST_SYMBOL = 0x1FFFF
"""Marks and symbols have smaller code points, except marks that choose variants of Chinese characters."""
_PRESENTATION = re.compile("[\ufe0e\ufe0f]")
"""Signs that ask for an emoji in colour or in black, which not every keyboard writes."""


def _ranges(characters: Iterable[int]) -> Iterator[tuple[int, int]]:
    """Yield the first and last of each run of consecutive numbers."""
    start = last = -2
    for number in characters:
        if number != last + 1:
            if start >= 0:
                yield start, last
            start = number
        last = number
    yield start, last


def _of_category(first: str) -> str:
    """Return the inside of a character class with all characters whose Unicode category begins with `first`."""
    found = (number for number in range(LAST_SYMBOL + 1) if unicodedata.category(chr(number))[0] == first)
    return "".join(f"\\U{start:08x}-\\U{end:08x}" for start, end in _ranges(found))


_SPACELESS = r"\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af"
"""Scripts without spaces, of which each character is a word."""
_MARKS = _of_category("M") + r"\u200c\u200d"
"""Vowel signs, accents, variation selectors and joiners: they belong to the character before them."""
_SYMBOLS = _of_category("S") + "#%&@!?\\\\"
"""Symbols, emoji, and signs of programs that Unicode calls punctuation."""
_WORD = re.compile(
    r"-?\.?\d+(?:[.,:/-]\d+)+|-\.?\d+|\.\d+"
    rf"|[{_SPACELESS}][{_MARKS}]*"
    rf"|(?:[^\W{_SPACELESS}][{_MARKS}]*)+(?:[#+]+(?!\w))?"
    rf"|[{_SYMBOLS}][{_SYMBOLS}{_MARKS}]*"
)


def split_words(text: str) -> list[str]:
    """Return the words of a text, among them runs of symbols, and numbers with their inner marks and their sign.

    `#` and `+` at the end of a word belong to it.
    """
    found: list[str] = _WORD.findall(_PRESENTATION.sub("", text))
    return found
