"""Converts a row to the messages that chat templates take, with a mark in place of each text of the row."""

from __future__ import annotations

import json
import re
import secrets
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from contracts.rows import Row, ToolCall, Turn
from infra.models.chat.control_tokens import ControlTokens
from infra.models.chat.refusal import Refused, Rule

_NAME = f"Hole{secrets.token_hex(6)}x"  # random, so that no row contains it
_MARK = re.compile(rf"{_NAME}(\d+)E")


class Field(StrEnum):
    """What a hole stands for; the value is how an error calls it."""

    CONTENT = "the text of"
    REASONING = "the reasoning of"
    CALL = "a tool call of"
    TOOL = "the tools"
    QUOTED = "a quoted control token"


TOOLS = -1
"""Stands for the row's tools in place of the index of a turn."""
PER_ROW = frozenset({Field.CONTENT, Field.REASONING})
"""Fields whose text differs between rows of the same shape."""


@dataclass(frozen=True, slots=True)
class Hole:
    """A place for a text of turn `turn`; `text` is set if all rows of the same shape have the same text there."""

    field: Field
    turn: int
    """Index of the turn, or TOOLS."""
    number: int
    text: str = ""


@dataclass(frozen=True, slots=True)
class Place:
    """Where the mark of a hole stands in a rendered text."""

    start: int
    end: int
    hole: Hole


@dataclass(frozen=True, slots=True)
class Form:
    """Two things that templates expect in different forms."""

    parts: bool = False
    """Whether a content is a list of parts, as multimodal templates need it."""
    arguments_as_text: bool = False
    """Whether the arguments of a tool call are JSON text."""


FORMS = (Form(), Form(parts=True), Form(arguments_as_text=True), Form(parts=True, arguments_as_text=True))


class Masked:
    """The messages and tools of a row, with marks in place of contents, reasoning, names of tools and control tokens.

    A template therefore cannot change these texts, and text of a row cannot become a control token.
    """

    def __init__(self, row: Row, form: Form, controls: ControlTokens) -> None:
        self._controls = controls
        self._form = form
        self._holes: list[Hole] = []
        self._wanted: list[str] = []
        self._unwanted: list[str] = []
        self.tools: list[Any] = [self._tool(tool) for tool in row.tools]
        self.messages: list[dict[str, Any]] = [self._message(turn, index) for index, turn in enumerate(row.turns)]

    def places(self, text: str) -> Iterator[Place]:
        """Yield the places of all holes in a rendered text, in its order."""
        for match in _MARK.finditer(text):
            yield Place(match.start(), match.end(), self._holes[int(match.group(1))])

    def require_all(self, row: Row, text: str) -> None:
        """Raise Refused if the rendered text lacks a hole, or shows a text of an assistant turn more than once.

        Reasoning of earlier turns may be missing: templates of reasoning models leave it out, also at inference.
        """
        shown = Counter(place.hole.number for place in self.places(text))
        for hole in self._holes:
            count = shown[hole.number]
            if not count and not _may_be_left_out(hole, row):
                raise Refused(Rule.LEFT_OUT, f"the model's chat template leaves out {_described(hole, row)}")
            if count > 1 and hole.field in PER_ROW and row.turns[hole.turn].role == "assistant":
                raise Refused(Rule.LEFT_OUT, f"the model's chat template repeats {_described(hole, row)}")
        if any(wrong in text for wrong in self._unwanted) or any(part not in text for part in self._wanted):
            raise Refused(Rule.LEFT_OUT, "the model's chat template does not write a tool call's arguments as JSON")

    def without_marks(self, text: str) -> str:
        """Return `text`, for example the message of an error, with a sign of omission in place of each mark."""
        return _MARK.sub("…", text)

    def _message(self, turn: Turn, index: int) -> dict[str, Any]:
        message: dict[str, Any] = {"role": turn.role, "content": self._content(turn, index)}
        if turn.reasoning:
            message["reasoning_content"] = self._mark(Field.REASONING, index)
        if turn.tool_calls:
            message["tool_calls"] = [self._call(call, index) for call in turn.tool_calls]
        if turn.tool_call_id is not None:
            message["tool_call_id"] = self._data(turn.tool_call_id, index)
        if turn.name is not None:
            message["name"] = self._data(turn.name, index)
        return message

    def _content(self, turn: Turn, index: int) -> Any:  # noqa: ANN401  # text or parts
        # With a call, an empty text must look empty, because templates then write only the call.
        text = "" if turn.tool_calls and not turn.content else self._mark(Field.CONTENT, index)
        return [{"type": "text", "text": text}] if self._form.parts else text

    def _call(self, call: ToolCall, index: int) -> dict[str, Any]:
        function = {"name": self._mark(Field.CALL, index, call.name), "arguments": self._arguments(call, index)}
        identity = {} if call.id is None else {"id": self._data(call.id, index)}
        return {**identity, "type": "function", "function": function}

    def _arguments(self, call: ToolCall, index: int) -> Any:  # noqa: ANN401  # JSON
        """Return a JSON object as a dict, as templates of transformers expect it; other texts stay texts."""
        text = call.arguments.strip() or "{}"
        arguments = _json_object(text)
        if arguments is None:
            return self._data(text, index)
        if self._form.arguments_as_text:
            self._wanted.append(self._data(text, index))  # a template that encodes it again would write a JSON string
            return self._wanted[-1]
        masked: dict[str, Any] = self._data(arguments, index)
        if str(masked) != json.dumps(masked, ensure_ascii=False):
            self._unwanted.append(str(masked))  # a template that prints the dict itself would write Python's notation
        return masked

    def _tool(self, tool: dict[str, Any]) -> dict[str, Any]:
        """Return the tool with a hole for its name, which shows whether the template writes the tools."""
        function = tool.get("function", tool)
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            raise Refused(Rule.LEFT_OUT, "a tool has no name; expected tools in the OpenAI format")
        masked: dict[str, Any] = self._data(tool, TOOLS)
        named = masked["function"] if "function" in tool else masked
        named["name"] = self._mark(Field.TOOL, TOOLS, function["name"])
        return masked

    def _data(self, value: Any, turn: int) -> Any:  # noqa: ANN401  # JSON
        """Return JSON data with a hole for each control token that one of its texts quotes."""
        if isinstance(value, str):
            return self._controls.pattern.sub(lambda m: self._mark(Field.QUOTED, turn, m.group()), value)
        if isinstance(value, dict):
            return {self._data(key, turn): self._data(item, turn) for key, item in value.items()}
        return [self._data(item, turn) for item in value] if isinstance(value, list) else value

    def _mark(self, field: Field, turn: int, text: str = "") -> str:
        number = len(self._holes)
        self._holes.append(Hole(field, turn, number, text))
        return f"{_NAME}{number}E"


def _json_object(text: str) -> dict[str, Any] | None:
    try:
        value = json.loads(text)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def _may_be_left_out(hole: Hole, row: Row) -> bool:
    """Whether a template may leave the hole out: a quote, for example in an id, or the reasoning of an earlier turn."""
    return hole.field is Field.QUOTED or (hole.field is Field.REASONING and hole.turn < len(row.turns) - 1)


def _described(hole: Hole, row: Row) -> str:
    if hole.turn == TOOLS:
        return hole.field.value
    role = row.turns[hole.turn].role
    return f"{hole.field.value} {'an' if role == 'assistant' else 'a'} {role} turn"
