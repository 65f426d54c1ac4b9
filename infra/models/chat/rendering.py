"""One rendered conversation with marks in place of its texts, and where its answers begin and end."""

from __future__ import annotations

import re
from dataclasses import dataclass

from contracts.rows import Row
from infra.models.chat.control_tokens import ControlTokens
from infra.models.chat.messages import Field, Form, Masked, Place
from infra.models.chat.refusal import Refused, Rule
from infra.models.chat.template import Template


@dataclass(frozen=True, slots=True)
class Span:
    """An answer from `start` to `end`; the template's text from `opening` to `start` opens it."""

    turn: int
    opening: int
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
        self.text, self.places = "", list[Place]()
        self._use(self._rendered(len(row.turns), prompt=False))
        self.last: Span = self._last_answer()
        """The last turn, with which `text` ends."""

    def earlier(self) -> list[Span]:
        """Return the earlier assistant turns that are learnt."""
        turns = enumerate(self._row.turns[:-1])
        return [self._earlier_answer(index) for index, turn in turns if turn.role == "assistant" and turn.learn]

    def reasoning_left_out(self) -> bool:
        """Whether the template leaves out the reasoning of an earlier turn."""
        shown = {place.hole.turn for place in self.places if place.hole.field is Field.REASONING}
        return any(turn.reasoning and index not in shown for index, turn in enumerate(self._row.turns))

    def _last_answer(self) -> Span:
        turn = len(self._row.turns) - 1
        start = self._start(turn)
        if start is None:
            self._begin_with_generation_prompt(turn)
            start = self._start(turn) or (self._first(turn).start,) * 2
        end, stops = self._end(turn, start[1])
        if not stops and self.text[end:].strip():
            end = len(self.text)  # the template ends the answer with text
        self.text = self.text[:end]
        return Span(turn, *start, end, stops)

    def _earlier_answer(self, turn: int) -> Span:
        start = self._start(turn)
        if start is None:
            first = self._first(turn)
            self._require_text_first(first)
            lead = self.text[self.last.start : self._first(self.last.turn).start]
            begin = (
                first.start - len(lead) if lead.isspace() and self.text.endswith(lead, 0, first.start) else first.start
            )
            start = begin, begin
        end, stops = self._end(turn, start[1])
        if not stops and self._row.turns[turn].tool_calls:
            raise Refused(Rule.LEFT_OUT, "the model's chat template does not mark the end of a tool call")
        return Span(turn, *start, end, stops)

    def _start(self, turn: int) -> tuple[int, int] | None:
        """Where the template's opening of the answer and the answer begin; None if it has another generation prompt.

        The prompt that generation uses ends at the answer's beginning. White space before an answer belongs to it,
        because tokens often begin with a space; other text, for example an empty reasoning block, to the prompt.
        """
        prompt = self._generation_prompt(turn)
        if prompt is None:
            return None
        first = self._first(turn)
        begin, tail = self._after_last_hole(prompt, first)
        end = begin + len(tail)
        between = self.text[end : first.start]
        if not self.text.startswith(tail, begin) or end > first.start or any(self._masked.places(between)):
            return None
        opened = first.hole.field is Field.CONTENT and bool(between.strip())
        return end, first.start if opened else end

    def _after_last_hole(self, prompt: str, first: Place) -> tuple[int, str]:
        """Where in `text` the prompt's last hole ends before `first`, and the prompt's text after it."""
        *_, last = None, *self._masked.places(prompt)
        if last is None:
            return 0, prompt
        ends = (place.end for place in self.places if place.hole is last.hole and place.end <= first.start)
        return max(ends, default=len(self.text)), prompt[last.end :]

    def _end(self, turn: int, start: int) -> tuple[int, int]:
        """Where the answer ends, and its stop tokens; without one it ends with its last text."""
        last = max(place.end for place in self.places if place.hole.turn == turn)
        following = min((place.start for place in self.places if place.start >= last), default=len(self.text))
        stop = self._stop.search(self.text, last, following)
        return (stop.end(), len(self._stop.findall(self.text, start, stop.end()))) if stop else (last, 0)

    def _begin_with_generation_prompt(self, turn: int) -> None:
        """Let the last answer follow the generation prompt, though the template writes it otherwise."""
        first = self._first(turn)
        self._require_text_first(first)
        prompt = self._generation_prompt(turn)
        if prompt is not None:
            self._use(prompt + self.text[first.start :])

    def _require_text_first(self, first: Place) -> None:
        if first.hole.field is Field.CALL:
            raise Refused(Rule.LEFT_OUT, "the model's chat template does not mark the beginning of a tool call")

    def _first(self, turn: int) -> Place:
        return min((p for p in self.places if p.hole.turn == turn), key=lambda place: place.start)

    def _use(self, text: str) -> None:
        self._masked.require_all(self._row, text)
        self.text, self.places = text, list(self._masked.places(text))

    def _generation_prompt(self, turn: int) -> str | None:
        """Return the text from which the turn is generated; None if the template cannot write it."""
        try:
            return self._rendered(turn, prompt=True)
        except Refused:
            return None

    def _rendered(self, turns: int, *, prompt: bool) -> str:
        try:
            return self._template.text(self._masked.messages[:turns], self._masked.tools, prompt=prompt)
        except Refused as error:
            refusal = error.refusal
            raise Refused(refusal.rule, refusal.reason, self._masked.without_marks(refusal.detail)) from error
