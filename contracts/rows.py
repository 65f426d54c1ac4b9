"""The canonical row: what the optimizer writes, the trainer learns and the evaluator asks."""

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

    Exactly one JSON object a line in `train.jsonl`, `dev.jsonl`, `test.jsonl` and `pool.jsonl`.
    """

    id: str
    turns: tuple[Turn, ...] = ()
    text: str | None = None
    slice: str = "all"
    """The category that scores are broken down by."""
    weight: float = Field(default=1.0, gt=0, le=100)

    @property
    def prompt(self) -> str:
        """What the model is asked: every turn but the last, the roles left out; or the text."""
        return self.text if self.text is not None else "\n".join(t.content for t in self.turns[:-1])

    @property
    def response(self) -> str:
        """What it should answer; empty for plain text."""
        return self.turns[-1].content if self.turns else ""
