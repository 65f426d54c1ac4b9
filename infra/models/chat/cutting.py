"""Cuts a rendered conversation into the segments of its skeleton."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby, pairwise

from contracts.rows import Row
from infra.models.chat.control_tokens import ControlTokens
from infra.models.chat.messages import PER_ROW, Hole
from infra.models.chat.rendering import Rendering, Span
from infra.models.chat.skeleton import Answer, Item, Opening, Segment, Skeleton


def cut(rendering: Rendering, row: Row, controls: ControlTokens) -> Skeleton:
    """Cut the text where an answer begins, and where one ends that no stop token ends."""
    spans = {span.start: span for span in (*rendering.earlier(), rendering.last)}
    ends = {span.end for span in spans.values() if not span.stops}
    segments = [
        Segment(
            items=tuple(_items(rendering, start, end, spans.get(end), controls)),
            after_control_token=rendering.text[:start].endswith(controls.strings),
            answer=_answer(spans.get(start), row),
        )
        for start, end in pairwise(sorted({0, *spans, *ends, rendering.last.end}))
    ]
    return Skeleton(tuple(segments), bool(rendering.last.stops), rendering.reasoning_left_out())


def _answer(span: Span | None, row: Row) -> Answer | None:
    return Answer(span.turn, span.stops, row.turns[span.turn].learn) if span else None


def _items(
    rendering: Rendering, start: int, end: int, following: Span | None, controls: ControlTokens
) -> Iterator[Item]:
    """Yield the items of a segment; the opening of the answer that follows is the last one."""
    opening = max(start, following.opening) if following else end
    yield from _joined(_pieces(rendering, start, opening, controls))
    if following and opening < end:
        yield Opening(rendering.text[opening:end], following.turn)


def _pieces(rendering: Rendering, start: int, end: int, controls: ControlTokens) -> Iterator[str | Hole]:
    """Yield the template's text and the holes; a fixed text that quotes no control token is like template text."""
    position = start
    for place in rendering.places:
        if start <= place.start < end:
            yield rendering.text[position : place.start]
            fixed = place.hole.field not in PER_ROW and controls.first_in(place.hole.text) is None
            yield place.hole.text if fixed else place.hole
            position = place.end
    yield rendering.text[position:end]


def _joined(pieces: Iterable[str | Hole]) -> Iterator[str | Hole]:
    """Join neighbouring texts and drop empty ones."""
    for is_text, group in groupby(pieces, key=lambda piece: isinstance(piece, str)):
        if not is_text:
            yield from group
        elif text := "".join(map(str, group)):
            yield text
