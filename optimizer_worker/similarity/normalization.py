"""Normalize texts for comparison: without differences in Unicode form, case, white space and punctuation."""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

# Chinese and Japanese have no spaces between words, so each character counts as a word.
_UNSPACED = re.compile("([\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff])")
# Numbers keep their inner marks, operators and brackets are words: "2+2" and "2-2" are different questions.
_WORD = re.compile(r"\d+(?:[.,:]\d+)*|[^\W\d_]+|[+*/=<>%^()\[\]{}]|(?<![^\W\d_])-(?=\s?\d)")


@lru_cache(maxsize=1 << 17)
def words(text: str) -> tuple[str, ...]:
    """Return the words, numbers and operators of `text` in lower case; if it has none, its space-separated parts."""
    folded = text.lower() if text.isascii() else _UNSPACED.sub(r" \1 ", _fold(text))
    tokens = tuple(_WORD.findall(folded))
    return tokens or tuple(folded.split())


def normal(text: str) -> str:
    """Return a key that is the same for texts that count as equal."""
    return " ".join(words(text))


def numbers(text: str) -> tuple[str, ...]:
    """Return the numbers of `text` in order; texts with different numbers are different questions or answers."""
    return tuple(word for word in words(text) if word[0].isdigit())


def _fold(text: str) -> str:
    return unicodedata.normalize("NFKC", text).casefold()
