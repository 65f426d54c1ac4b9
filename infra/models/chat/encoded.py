"""A row as token ids, before it is cut to a length."""

from __future__ import annotations

from dataclasses import dataclass

from infra.models.chat.encoder import IdList


@dataclass(frozen=True, slots=True)
class Encoded:
    """All tokens of a row; `answers` are the spans (start, end) of tokens that may be learnt, in order."""

    ids: IdList
    answers: list[tuple[int, int]]
    prompt: int
    """Number of tokens before the last answer, from which it is generated."""
    reasoning_left_out: bool = False
    begun: str = ""
    """The mark of reasoning with which the prompt ends."""
