"""The canonical row, which the optimizer writes and the trainer and the evaluator read."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from contracts.message import Frozen


class ToolCall(Frozen):
    """A call of a tool in an assistant turn; `arguments` is a JSON object as text, as in the OpenAI format."""

    name: str
    arguments: str
    id: str | None = None


class Turn(Frozen):
    """One message of a conversation."""

    role: Literal["system", "user", "assistant", "tool"]
    content: str
    """The text, exactly as the file has it; empty only in an assistant turn with tool calls."""
    reasoning: str = ""
    """The thoughts of an assistant turn, if the file has them in a field of their own."""
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None
    """The id of the call that a tool turn answers."""
    name: str | None = None
    """The name of the speaker or, in a tool turn, of the tool."""
    learn: bool = True
    """False: an assistant turn is context and is not trained on. Other turns are never trained on."""


class Source(Frozen):
    """Where a row comes from: the file below the upload, with its dataset's name, and the line, counted from 1.

    In a JSON array `line` is the number of the item.
    """

    file: str
    line: int


class Row(Frozen):
    """One example: a conversation that ends with the assistant's answer, or plain `text` (stage `pt`).

    One JSON object per line in `train.jsonl`, `dev.jsonl`, `test.jsonl` and `pool.jsonl`.
    """

    version: Literal[1] = 1
    id: str
    turns: tuple[Turn, ...] = ()
    text: str | None = None
    tools: tuple[dict[str, Any], ...] = ()
    """The tools that the assistant may call, as JSON schemas in the OpenAI format."""
    slice: str = "all"
    """The category by which scores are grouped."""
    weight: float = Field(default=1.0, gt=0, le=100)
    """The weight that the file gives the row."""
    slice_weight: float = Field(default=1.0, gt=0)
    """The factor of the row's slice, which the optimizer sets anew in each iteration from the second on."""
    source: Source | None = None

    @property
    def training_weight(self) -> float:
        """The weight of each learnt token: the row's own weight, multiplied by the factor of its slice."""
        return self.weight * self.slice_weight

    @property
    def prompt(self) -> str:
        """The input of the model: all turns except the last, joined by newlines, without roles; or `text`."""
        return self.text if self.text is not None else "\n".join(t.content for t in self.turns[:-1])

    @property
    def response(self) -> str:
        """The expected answer; empty for plain text and for an answer that only calls tools."""
        return self.turns[-1].content if self.turns else ""
