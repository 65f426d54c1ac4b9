"""The control tokens of a tokenizer: those that no text of a row may produce."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from infra.models.chat.reasoning import is_reasoning_mark

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class ControlTokens:
    """All special tokens, and the other added tokens that mark the turns in `framing`, text that a template wrote.

    Added tokens elsewhere, for example `<think>` if it is not special, are ordinary text.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, framing: str = "") -> None:
        special = _special_tokens(tokenizer)
        marks = {
            token.content: number
            for number, token in tokenizer.added_tokens_decoder.items()
            if _is_mark(token.content) and token.content in framing
        }
        self.marks: frozenset[str] = frozenset(marks.keys() - special.keys())
        """Control tokens that the tokenizer does not call special."""
        ids = special | marks
        self.ids: frozenset[int] = frozenset(ids.values()) - _unknown(tokenizer)
        self.strings: tuple[str, ...] = tuple(sorted(ids, key=len, reverse=True))
        self.pattern: re.Pattern[str] = re.compile("|".join(map(re.escape, self.strings)) or r"(?!)")

    def first_in(self, text: str) -> str | None:
        """Return the first control token that `text` quotes."""
        match = self.pattern.search(text)
        return match.group() if match else None

    def count(self, ids: list[int]) -> int:
        """Return the number of control tokens among `ids`; the unknown token is none of them."""
        return sum(map(self.ids.__contains__, ids))


def _special_tokens(tokenizer: PreTrainedTokenizerBase) -> dict[str, int]:
    added = {token.content: number for number, token in tokenizer.added_tokens_decoder.items() if token.special}
    named = dict(zip(map(str, tokenizer.all_special_tokens), tokenizer.all_special_ids, strict=True))
    return {string: number for string, number in (added | named).items() if string}


def _is_mark(token: str) -> bool:
    """Whether the token looks like a mark of a turn: some vocabularies have white space or words as added tokens."""
    return bool(token.strip()) and not token.isalnum() and not is_reasoning_mark(token)


def _unknown(tokenizer: PreTrainedTokenizerBase) -> set[int]:
    """Return the unknown token, which any text may produce, unless it has a second role."""
    unknown = tokenizer.unk_token_id
    other_roles = {tokenizer.eos_token_id, tokenizer.bos_token_id}
    return set() if unknown is None or unknown in other_roles else {unknown}
