"""The form in which two texts count as the same: Unicode compatibility, case, spacing and sentence marks aside."""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

# Chinese and Japanese write no spaces between words: each character counts as a word.
_UNSPACED = re.compile("([\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff])")
# Numbers keep their inner marks, and operators and brackets stay: "2+2" and "2-2" are two questions.
_WORD = re.compile(r"\d+(?:[.,:]\d+)*|[^\W\d_]+|[+*/=<>%^()\[\]{}]|(?<![^\W\d_])-(?=\s?\d)")


@lru_cache(maxsize=1 << 17)
def words(text: str) -> tuple[str, ...]:
    """The words, numbers and operators of `text` in lower case; a text of other signs only is one word."""
    folded = text.lower() if text.isascii() else _UNSPACED.sub(r" \1 ", _fold(text))
    found = tuple(_WORD.findall(folded))
    return found or tuple(folded.split())


def normal(text: str) -> str:
    """The key under which equal texts meet."""
    return " ".join(words(text))


def numbers(text: str) -> tuple[str, ...]:
    """The numbers of `text` in order. Texts that differ in one are not the same question, nor the same answer."""
    return tuple(word for word in words(text) if word[0].isdigit())


def _fold(text: str) -> str:
    return unicodedata.normalize("NFKC", text).casefold()
