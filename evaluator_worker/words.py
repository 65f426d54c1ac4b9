"""Splits text of any script into words."""

from __future__ import annotations

import re

from infra.characters import of_category

_PRESENTATION = re.compile("[\ufe0e\ufe0f]")
"""Signs that ask for an emoji in colour or in black, which not every keyboard writes."""

_SPACELESS = r"\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af"
"""Scripts without spaces, of which each character is a word."""
_MARKS = of_category("M") + r"\u200c\u200d"
"""Vowel signs, accents, variation selectors and joiners: they belong to the character before them."""
_SYMBOLS = of_category("S") + "$+<=>^`|~#%&@!?\\\\"
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
