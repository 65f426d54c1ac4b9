"""Text that people or programs wrote, made safe for a terminal or a log: what would steer them is escaped."""

from __future__ import annotations

import re

_UNSAFE = re.compile(
    "["
    "\x00-\x1f\x7f-\x9f"  # C0, DEL and C1: escape sequences, titles, links, bells
    "\xad\u034f\u115f\u1160\u17b4\u17b5\u180e\u3164\uffa0"  # soft hyphen, joiners and fillers that show nothing
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # the marks that change the direction of text
    "\u200b\u2028\u2029\u2060-\u2065\u206a-\u206f\ufeff\ufff0-\ufffb"  # invisible spaces, separators, annotations
    "\U00013430-\U0001343f\U0001bca0-\U0001bca3\U0001d173-\U0001d17a"  # layout of hieroglyphs, shorthand and music
    "\U000e0000-\U000e00ff\U000e01f0-\U000e0fff"  # tags
    "\ud800-\udfff"  # lone surrogates, which no output can encode
    "]"
)
"""Kept although invisible: the joiners U+200C and U+200D, which emoji, Persian and Indic scripts need, and variation
selectors, which emoji and Chinese names need. They change one glyph, never the order of text or the terminal."""
_UNSAFE_BUT_LINES = re.compile(rf"(?!\n){_UNSAFE.pattern}")


def safe_text(text: str, *, lines: bool = False) -> str:
    """Return `text` with unsafe characters escaped as in Python; with `lines`, line breaks stay."""
    if text.isascii() and text.isprintable():
        return text
    if lines:
        return _UNSAFE_BUT_LINES.sub(_escaped, text.replace("\r\n", "\n"))
    return _UNSAFE.sub(_escaped, text)


def safe_json(text: str) -> str:
    """Return a JSON text with unsafe characters as JSON's escapes, which a parser reads as the same value."""
    return _UNSAFE_BUT_LINES.sub(_escaped_in_json, text)


def _escaped(match: re.Match[str]) -> str:
    return ascii(match[0])[1:-1]


def _escaped_in_json(match: re.Match[str]) -> str:
    encoded = match[0].encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{encoded[place : place + 2].hex()}" for place in range(0, len(encoded), 2))
