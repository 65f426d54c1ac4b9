"""One rendered conversation with marks in place of its texts, and where its answers begin and end."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import takewhile

from contracts.rows import Row
from infra.models.chat.control_tokens import ControlTokens
from infra.models.chat.messages import TOOLS, Field, Form, Masked, Place
from infra.models.chat.reasoning import REASONING_END, brings_reasoning
from infra.models.chat.refusal import Refused, Rule
from infra.models.chat.template import Template


@dataclass(frozen=True, slots=True)
class Span:
    """An answer in the rendered text."""

    turn: int
    start: int
    end: int
    stops: int
    """Stop tokens in the span, of which the last one ends it; 0 if the template does not end the answer."""


class Rendering:
    """The rendered text of one row. Raises Refused if the template refuses the row or leaves out a text of it."""

    def __init__(
        self, row: Row, form: Form, template: Template, controls: ControlTokens, stop: re.Pattern[str]
    ) -> None:
        self._row = row
        self._template = template
        self._stop = stop
        self._masked = Masked(row, form, controls)
        self._prompts: dict[int, str | None] = {}
        self.text, self.places = "", list[Place]()
        self._use(self._rendered(len(row.turns), prompt=False))
        last = len(row.turns) - 1
        earlier = [index for index, turn in enumerate(row.turns[:last]) if turn.role == "assistant" and turn.learn]
        self._follow_generation_prompt(last)
        for turn in (*earlier, last):
            self._drop_opening(turn)
        self.answers: list[Span] = [self._span(turn) for turn in (*earlier, last)]
        """The learnt answers in order, and the last answer in any case; the text ends with it."""
        self.text = self.text[: self.answers[-1].end]

    def reasoning_left_out(self) -> bool:
        """Whether the template leaves out the reasoning of an earlier turn."""
        shown = {place.hole.turn for place in self.places if place.hole.field is Field.REASONING}
        return any(turn.reasoning and index not in shown for index, turn in enumerate(self._row.turns))

    def _follow_generation_prompt(self, turn: int) -> None:
        """Let the last answer follow the generation prompt, if the template writes it otherwise without reasoning."""
        first = self._first(turn)
        prompt = self._generation_prompt(turn)
        if prompt is None or self._header_end(turn) is not None or first.hole.field is Field.CALL:
            return
        if self._brings_reasoning(turn) or not REASONING_END.search(self._text_before(first)):
            self._use(prompt + self.text[first.start :])

    def _drop_opening(self, turn: int) -> None:
        """Remove an empty block of reasoning before an answer that brings its own."""
        first = self._first(turn)
        if first.hole.field is not Field.CONTENT or not self._brings_reasoning(turn):
            return
        header = self._header_end(turn)
        if header is not None and REASONING_END.search(self.text[header : first.start]):
            self._use(self.text[:header] + self.text[first.start :])

    def _brings_reasoning(self, turn: int) -> bool:
        return brings_reasoning(self._row.turns[turn].content, self._generation_prompt(turn) or "")

    def _span(self, turn: int) -> Span:
        start = self._start(turn)
        last = self._last(turn)
        following = min((p.start for p in self.places if p.start >= last.end), default=len(self.text))
        stop = self._stop.search(self.text, last.end, following)
        if stop:
            return Span(turn, start, stop.end(), len(self._stop.findall(self.text, start, stop.end())))
        return Span(turn, start, self._end_without_stop(turn, last), 0)

    def _start(self, turn: int) -> int:
        """Where an answer begins: where the prompt ends from which it is generated.

        White space before an answer belongs to it, because tokens often begin with a space; other text of the template,
        for example an empty block of reasoning, belongs to the prompt.
        """
        first = self._first(turn)
        header = self._header_end(turn)
        before = self._text_before(first) if header is None else self.text[header : first.start]
        if first.hole.field is Field.CONTENT:
            blank = len(before) - len(before.rstrip(" ")) if header is None else len(before) * before.isspace()
            return first.start - blank
        *_, reasoning = None, *REASONING_END.finditer(before)
        if first.hole.field is Field.CALL and reasoning:
            return first.start - len(before) + reasoning.end()
        if header is not None:
            return header
        if first.hole.field is Field.REASONING:
            return first.start
        raise Refused(Rule.LEFT_OUT, "the model's chat template does not mark the beginning of a tool call")

    def _header_end(self, turn: int) -> int | None:
        """Where the text of the turn's generation prompt ends; None if the text before the turn is another."""
        prompt = self._generation_prompt(turn)
        if prompt is None:
            return None
        first = self._first(turn)
        *_, last = None, *self._masked.places(prompt)
        same = [place.end for place in self.places if last and place.hole is last.hole and place.end <= first.start]
        begin = max(same, default=0)
        tail = prompt[last.end :] if last else prompt
        end = begin + len(tail)
        if (last and not same) or end > first.start or not self.text.startswith(tail, begin):
            return None
        return None if any(self._masked.places(self.text[end : first.start])) else end

    def _end_without_stop(self, turn: int, last: Place) -> int:
        """Where an answer ends that no stop token ends: with its text, or with the text that follows it in the end."""
        if turn == len(self._row.turns) - 1:
            return len(self.text) if self.text[last.end :].strip() else last.end
        if not self._row.turns[turn].tool_calls:
            return last.end
        alone = self._rendered(turn + 1, prompt=False)
        end = next((place.end for place in self._masked.places(alone) if place.hole is last.hole), len(alone))
        return last.end + _common_length(alone[end:], self.text[last.end :])

    def _text_before(self, place: Place) -> str:
        """Return the template's text between the hole before `place` and `place`."""
        begin = max((other.end for other in self.places if other.end <= place.start), default=0)
        return self.text[begin : place.start]

    def _first(self, turn: int) -> Place:
        return next(place for place in self.places if place.hole.turn == turn)

    def _last(self, turn: int) -> Place:
        """Return the last hole of a turn; that a later turn repeats one, for example a tool's name, does not count."""
        first_of_each = {place.hole.number: place for place in reversed(self.places)}
        last = max((p for p in first_of_each.values() if p.hole.turn == turn), key=lambda place: place.start)
        inside = (place for place in self.places if self._first(turn).start < place.start < last.start)
        if any(place.hole.turn not in {turn, TOOLS} for place in inside):
            raise Refused(Rule.LEFT_OUT, "the model's chat template writes another turn inside an assistant turn")
        return last

    def _use(self, text: str) -> None:
        self._masked.require_all(self._row, text)
        self.text, self.places = text, list(self._masked.places(text))

    def _generation_prompt(self, turn: int) -> str | None:
        """Return the text from which the turn is generated; None if the template cannot write it."""
        if turn not in self._prompts:
            try:
                self._prompts[turn] = self._rendered(turn, prompt=True)
            except Refused:
                self._prompts[turn] = None
        return self._prompts[turn]

    def _rendered(self, turns: int, *, prompt: bool) -> str:
        try:
            return self._template.text(self._masked.messages[:turns], self._masked.tools, prompt=prompt)
        except Refused as error:
            refusal = error.refusal
            raise Refused(refusal.rule, refusal.reason, self._masked.without_marks(refusal.detail)) from error


def _common_length(one: str, other: str) -> int:
    """Return the length of the longest common beginning."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))
