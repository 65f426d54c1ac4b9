"""A rendered conversation cut into segments: template text, and holes that the texts of a row fill."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from contracts.rows import Row
from infra.models.chat.messages import Field, Hole


@dataclass(frozen=True, slots=True)
class Opening:
    """Template text between the generation prompt and an answer, for example an empty reasoning block.

    It is part of the prompt, and omitted if the answer itself begins with the same mark, for example `<think>`.
    """

    text: str
    turn: int

    def omitted(self, row: Row) -> bool:
        """Whether the row's answer brings its own opening."""
        mark = self.text.split()[0].partition(">")[0]
        return row.turns[self.turn].content.lstrip().startswith(mark)


Item = str | Hole | Opening


@dataclass(frozen=True, slots=True)
class Answer:
    """An assistant turn that begins with its segment."""

    turn: int
    stops: int
    """Number of the stop token that ends the answer, counted from 1 within the segment; 0: the segment ends it."""
    learnt: bool


@dataclass(frozen=True, slots=True)
class Segment:
    """Text that is tokenized as one; `answer` None: context only."""

    items: tuple[Item, ...]
    after_control_token: bool
    answer: Answer | None = None

    def texts(self, row: Row) -> Iterator[tuple[str, bool]]:
        """Yield the texts, and whether each is the row's own."""
        for item in self.items:
            if isinstance(item, str):
                yield item, False
            elif isinstance(item, Hole):
                yield _filled(item, row), True
            elif not item.omitted(row):
                yield item.text, False


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

    def omitted(self, row: Row) -> list[Opening]:
        """Return the openings that the row's answers bring themselves."""
        items = (segment.items[-1] for segment in self.segments if segment.items)
        return [item for item in items if isinstance(item, Opening) and item.omitted(row)]


def _filled(hole: Hole, row: Row) -> str:
    if hole.field is Field.CONTENT:
        return row.turns[hole.turn].content
    return row.turns[hole.turn].reasoning if hole.field is Field.REASONING else hole.text
