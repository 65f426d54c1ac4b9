"""Text from files and messages, made safe to print on a terminal."""

from __future__ import annotations


def printable(text: str) -> str:
    """The text with control characters escaped, so that it cannot change the terminal; line breaks stay."""
    return "".join(c if c.isprintable() or c == "\n" else repr(c)[1:-1] for c in text)
