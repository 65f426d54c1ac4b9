"""A notice fits its limits and can be stored, whatever text it quotes."""

from __future__ import annotations

import json

from hypothesis import example, given
from hypothesis import strategies as st

from contracts.notices import MAX_PLACE, MAX_PLACES, MAX_TEXT, Notice, notice

QUOTED = st.text(st.characters(exclude_categories=()), min_size=1, max_size=2000)
"""Texts that may have NUL characters and lone surrogates."""


@example("a\ud800b\0", ["\udfff", "\0"])
@given(QUOTED, st.lists(QUOTED, max_size=8))
def test_every_text_becomes_a_notice_that_is_read_back(text: str, places: list[str]) -> None:
    noted = notice("unreadable", 1, text, places)
    body = noted.model_dump_json()
    assert "\\u0000" not in json.dumps(json.loads(body))
    assert Notice.model_validate_json(body) == noted
    assert len(noted.text) <= MAX_TEXT
    assert len(noted.places) <= MAX_PLACES
    assert all(len(place) <= MAX_PLACE for place in noted.places)
