"""A rendered conversation cut into segments: template text, and holes that the texts of a row fill."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from contracts.rows import Row
from infra.models.chat.messages import Field, Hole
from infra.models.chat.reasoning import continuation

Item = str | Hole


@dataclass(frozen=True, slots=True)
class Answer:
    """An assistant turn that begins with its segment."""

    stops: int
    """Number of the stop token that ends the answer, counted from 1 within the segment; 0: the segment ends it."""
    learnt: bool
    begun: str
    """Beginning of the answer that the prompt has already, for example `<think>`."""


@dataclass(frozen=True, slots=True)
class Segment:
    """Text that is tokenized as one; `answer` None: context only."""

    items: tuple[Item, ...]
    after_control_token: bool
    answer: Answer | None = None

    def texts(self, row: Row) -> Iterator[tuple[str, bool]]:
        """Yield the texts, and whether each is the row's own."""
        begun = self.answer.begun if self.answer else ""
        for item in self.items:
            if isinstance(item, str):
                yield item, False
            else:
                yield continuation(_filled(item, row), begun), True
                begun = ""


@dataclass(slots=True)
class Skeleton:
    """The segments of all conversations of one shape; the last one begins with the last answer."""

    segments: tuple[Segment, ...]
    closed: bool
    """Whether the template writes a stop token after the last answer."""
    reasoning_left_out: bool
    """Whether the template leaves out the reasoning of an earlier turn."""
    control_tokens: int | None = None
    """How many the template writes; counted when the first row is encoded."""


def _filled(hole: Hole, row: Row) -> str:
    if hole.field is Field.CONTENT:
        return row.turns[hole.turn].content
    return row.turns[hole.turn].reasoning if hole.field is Field.REASONING else hole.text
