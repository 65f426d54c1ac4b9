"""Cuts a rendered conversation into the segments of its skeleton."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby, pairwise

from contracts.rows import Row
from infra.models.chat.control_tokens import ControlTokens
from infra.models.chat.messages import PER_ROW, Hole
from infra.models.chat.reasoning import begun_reasoning
from infra.models.chat.rendering import Rendering
from infra.models.chat.skeleton import Answer, Item, Segment, Skeleton


def cut(rendering: Rendering, row: Row, controls: ControlTokens) -> Skeleton:
    """Cut the text where an answer begins, and where one ends that no stop token ends."""
    answers = {
        span.start: Answer(span.stops, row.turns[span.turn].learn, begun_reasoning(rendering.text[: span.start]))
        for span in rendering.answers
    }
    ends = {span.end for span in rendering.answers if not span.stops}
    segments = [
        Segment(
            items=tuple(_joined(_pieces(rendering, start, end, controls))),
            after_control_token=rendering.text[:start].endswith(controls.strings),
            answer=answers.get(start),
        )
        for start, end in pairwise(sorted({0, *answers, *ends, len(rendering.text)}))
    ]
    return Skeleton(tuple(segments), bool(rendering.answers[-1].stops), rendering.reasoning_left_out())


def _pieces(rendering: Rendering, start: int, end: int, controls: ControlTokens) -> Iterator[Item]:
    """Yield the template's text and the holes; a fixed text that quotes no control token is like template text."""
    position = start
    for place in rendering.places:
        if start <= place.start < end:
            yield rendering.text[position : place.start]
            fixed = place.hole.field not in PER_ROW and controls.first_in(place.hole.text) is None
            yield place.hole.text if fixed else place.hole
            position = place.end
    yield rendering.text[position:end]


def _joined(pieces: Iterable[Item]) -> Iterator[str | Hole]:
    """Join neighbouring texts and drop empty ones."""
    for is_text, group in groupby(pieces, key=lambda piece: isinstance(piece, str)):
        if not is_text:
            yield from group
        elif text := "".join(map(str, group)):
            yield text
