"""Collect what a person should know about how the files of a dataset were read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from contracts.notices import MAX_PLACES, Notice, notice

MAX_KINDS = 6
"""Maximum notices of one rule and dataset, so that those of four datasets leave room for the rules of the optimizer."""


class Notes:
    """Lines counted by a text about them, for the notices of one rule; of a sealed dataset no place is kept."""

    def __init__(self, rule: str, *, sealed: bool = False) -> None:
        self.lines: Counter[str] = Counter()
        self._rule = rule
        self._sealed = sealed
        self._places: dict[str, list[str]] = {}

    def add(self, text: str, place: str, lines: int = 1) -> None:
        """Count `lines` at `place` for this text, which quotes nothing of a record."""
        self.lines[text] += lines
        places = self._places.setdefault(text, [])
        if not self._sealed and len(places) < MAX_PLACES and place not in places:
            places.append(place)

    def notices(self, sentence: Callable[[int, str], str]) -> list[Notice]:
        """Return a notice for each of the most frequent texts, and one that counts all others.

        `sentence` makes the notice's text of the number of lines and the text about them.
        """
        ordered = self.lines.most_common()
        shown = ordered if len(ordered) <= MAX_KINDS else ordered[: MAX_KINDS - 1]
        notices = [notice(self._rule, lines, sentence(lines, text), self._places[text]) for text, lines in shown]
        if rest := ordered[len(shown) :]:
            lines = sum(lines for _, lines in rest)
            notices.append(notice(self._rule, lines, sentence(lines, f"{len(rest)} other reasons")))
        return notices
