"""Normalize texts for comparison: without differences in Unicode form, case, white space and punctuation.

Letters, combining marks, digits, symbols and emoji distinguish texts; marks such as commas and quotes do not.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

from infra.characters import of_category

Words = tuple[str, ...]
"""The words, numbers and symbols of a text, in order."""

# Soft hyphens, zero-width characters, direction marks and variation selectors do not distinguish texts.
_INVISIBLE = re.compile("[\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u2064\ufe00-\ufe0f\ufeff]")
# Compatibility folding would turn these into plain digits: "x²" is not "x2".
_SUPERSCRIPT = re.compile("[²³¹⁰⁴-⁹]")
# Chinese and Japanese have no spaces between words, so each character counts as a word.
_UNSPACED = re.compile("([\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff])")
# Numbers keep their inner marks. Operators, brackets and symbols are words: "C" and "C#" are different languages.
_NUMBER = r"(?<!\w)\.\d+|\d+(?:[.,:]\d+)*"
# A mark inside a word is code, such as "!x", "[:1]" or "'5'"; at the end of a word it belongs to a sentence.
_SIGN = r"[!?:;](?=[^\s!?.,;:)\]}'\"])|['\"](?=\d)|!=|->|--+|(?<![^\W\d_])-(?=\s?\d)|[#$%&()*+/<=>@\[\\\]^{|}~]"
_ASCII_WORD = re.compile(rf"{_NUMBER}|[a-z]+|{_SIGN}")
_WORD = re.compile(rf"{_NUMBER}|(?:[^\W\d_]|[{of_category('M')}])+|{_SIGN}|[{of_category('S')}\U0001f000-\U0001faff]")


@lru_cache(maxsize=1 << 17)
def words(text: str) -> Words:
    """Return the words, numbers and symbols of `text` in lower case; if it has none, its space-separated parts."""
    folded = text.lower() if text.isascii() else _UNSPACED.sub(r" \1 ", _fold(text))
    return tuple((_ASCII_WORD if text.isascii() else _WORD).findall(folded) or folded.split())


def normal(text: str) -> str:
    """Return a key that is the same for texts that count as equal."""
    return " ".join(words(text))


def signs(tokens: Words) -> Words:
    """Return the numbers and symbols in order, brackets included; texts that differ in them are different."""
    return tuple(token for token in tokens if not token[0].isalpha())


def _fold(text: str) -> str:
    marked = _SUPERSCRIPT.sub(r"^\g<0>", _INVISIBLE.sub("", text))
    return unicodedata.normalize("NFKC", marked).casefold()
