"""The skeleton of each shape of conversation, rendered once."""

from __future__ import annotations

import json
import re
from collections.abc import Hashable, Sequence

from contracts.rows import Row, Turn
from infra.models.chat.control_tokens import ControlTokens
from infra.models.chat.cutting import cut
from infra.models.chat.messages import FORMS
from infra.models.chat.reasoning import brought_mark
from infra.models.chat.refusal import Refusal, Refused, Rule
from infra.models.chat.rendering import Rendering
from infra.models.chat.skeleton import Skeleton
from infra.models.chat.template import Template

MAX_SHAPES = 4096
"""Number of skeletons that are kept."""


class Skeletons:
    """The skeletons of a template; `stops` are the strings of the tokens that end an answer."""

    def __init__(self, template: Template, controls: ControlTokens, stops: Sequence[str]) -> None:
        self._template = template
        self._controls = controls
        self._stop = re.compile("|".join(map(re.escape, stops)))
        self._known: dict[Hashable, Skeleton | Refusal] = {}

    def of(self, row: Row) -> Skeleton | Refusal:
        """Return the skeleton of a conversation, or why the template cannot render it."""
        shape = _shape(row)
        known = self._known.get(shape)
        if known is None:
            if len(self._known) >= MAX_SHAPES:
                self._known.clear()
            known = self._known[shape] = self._made(row)
        return known

    def _made(self, row: Row) -> Skeleton | Refusal:
        """Try the forms of messages; if none fits, say what the template leaves out, or how it refuses the row."""
        if not row.turns or row.turns[-1].role != "assistant":
            return Refusal(Rule.NO_ANSWER, "it does not end with an answer of the assistant")
        refusals = []
        for form in FORMS if any(turn.tool_calls for turn in row.turns) else FORMS[:2]:
            try:
                return cut(Rendering(row, form, self._template, self._controls, self._stop), row, self._controls)
            except Refused as error:
                refusals.append(error.refusal)
            except RecursionError:
                refusals.append(Refusal(Rule.TEMPLATE, "its tools or tool calls are nested too deeply"))
        return next((refusal for refusal in refusals if refusal.rule is Rule.LEFT_OUT), refusals[0])


def _shape(row: Row) -> Hashable:
    """Return what decides the skeleton: everything but contents and reasoning, of which only a few traits count."""
    tools = json.dumps(row.tools, ensure_ascii=False) if row.tools else ""
    return tools, *(
        (turn.role, turn.learn, bool(turn.reasoning), _brought_mark(turn), _extras(turn)) for turn in row.turns
    )


def _brought_mark(turn: Turn) -> str:
    return brought_mark(turn.content) if turn.role == "assistant" else ""


def _extras(turn: Turn) -> Hashable:
    if not turn.tool_calls and turn.tool_call_id is None and turn.name is None:
        return None
    return turn.tool_calls, turn.tool_call_id, turn.name, bool(turn.content)
