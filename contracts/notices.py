"""Notices: what a phase did with some of the rows, and why, for a person to read."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import Annotated

from pydantic import Field

from contracts.bounds import Count, Text, cut
from contracts.message import Frozen

MAX_NOTICES, MAX_PLACES = 50, 5
"""Maximum notices of one phase, and maximum places that one notice names."""
MAX_TEXT, MAX_PLACE = 1000, 300
"""Maximum characters of a notice's text and of a place."""


class Notice(Frozen):
    """One rule's effect on rows, for example that 12 lines could not be read; it never quotes a sealed test row."""

    rule: Annotated[Text, Field(min_length=1, max_length=64)]
    rows: Count
    """Number of rows or lines; 0 if the notice is about the whole dataset, for example how it was read."""
    text: Annotated[Text, Field(min_length=1, max_length=MAX_TEXT)]
    """What happened and, if a person can change it, how."""
    places: Annotated[tuple[Annotated[Text, Field(max_length=MAX_PLACE)], ...], Field(max_length=MAX_PLACES)] = ()
    """The first rows or lines, e.g. `train/rows.jsonl:17`; empty for the sealed test split."""


Notices = Annotated[tuple[Notice, ...], Field(max_length=MAX_NOTICES)]


def notice(rule: str, rows: int, text: str, places: Iterable[str] = ()) -> Notice:
    """Return a Notice whose text and places are cut to their limits and hold no character that cannot be stored."""
    first = tuple(cut(place, MAX_PLACE) for place in islice(places, MAX_PLACES))
    return Notice(rule=rule, rows=rows, text=cut(text, MAX_TEXT), places=first)
