"""The canonical row, which the optimizer writes and the trainer and the evaluator read."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from contracts.message import Frozen


class Turn(Frozen):
    """One message of a conversation."""

    role: Literal["system", "user", "assistant"]
    content: str


class Row(Frozen):
    """One example: a conversation that ends with the assistant's answer, or plain `text` (stage `pt`).

    One JSON object per line in `train.jsonl`, `dev.jsonl`, `test.jsonl` and `pool.jsonl`.
    """

    id: str
    turns: tuple[Turn, ...] = ()
    text: str | None = None
    slice: str = "all"
    """The category by which scores are grouped."""
    weight: float = Field(default=1.0, gt=0, le=100)

    @property
    def prompt(self) -> str:
        """The input of the model: all turns except the last, joined by newlines, without roles; or `text`."""
        return self.text if self.text is not None else "\n".join(t.content for t in self.turns[:-1])

    @property
    def response(self) -> str:
        """The expected answer; empty for plain text."""
        return self.turns[-1].content if self.turns else ""
