"""What is escaped and what stays, character by character."""

from __future__ import annotations

import json
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.safe_text import safe_json, safe_text
from tests.hostile import LEGIT, unsafe_characters

ANY_TEXT = st.text(st.characters(exclude_categories=()))
"""Also lone surrogates."""


def test_every_character_that_steers_a_terminal_is_escaped() -> None:
    assert [c for c in unsafe_characters() if safe_text(c) != ascii(c)[1:-1]] == []


def test_every_lone_surrogate_is_escaped() -> None:
    assert [n for n in range(0xD800, 0xE000) if safe_text(chr(n)) != f"\\u{n:x}"] == []


def test_every_printable_character_stays_unless_it_shows_nothing() -> None:
    changed = [c for c in map(chr, range(sys.maxunicode + 1)) if c.isprintable() and safe_text(c) != c]
    assert changed == list("\u034f\u115f\u1160\u17b4\u17b5\u3164\uffa0")


@pytest.mark.parametrize("text", [LEGIT, "a\u00a0b\u3000c", "𠮷 👨‍👩‍👧‍👦 é e\u0301", "C:\\new [b] :smile:"])
def test_legitimate_text_stays(text: str) -> None:
    assert safe_text(text) == text


@pytest.mark.parametrize(
    ("text", "one_line", "with_lines"),
    [
        ("a\nb", "a\\nb", "a\nb"),
        ("a\r\nb", "a\\r\\nb", "a\nb"),
        ("a\rb\tc", "a\\rb\\tc", "a\\rb\\tc"),
        ("\x1b]0;x\x07\x9b2J\u202e", "\\x1b]0;x\\x07\\x9b2J\\u202e", "\\x1b]0;x\\x07\\x9b2J\\u202e"),
    ],
)
def test_only_line_breaks_stay_in_a_text_with_lines(text: str, one_line: str, with_lines: str) -> None:
    assert (safe_text(text), safe_text(text, lines=True)) == (one_line, with_lines)


@given(ANY_TEXT)
def test_safe_text_is_encodable_and_stays_as_it_is(text: str) -> None:
    assert safe_text(safe_text(text)).encode().decode() == safe_text(text)


@given(st.dictionaries(ANY_TEXT, ANY_TEXT))
def test_a_parser_reads_the_same_values_from_safe_json(value: dict[str, str]) -> None:
    document = safe_json(json.dumps(value, ensure_ascii=False))
    assert (json.loads(document), safe_text(document)) == (value, document)
