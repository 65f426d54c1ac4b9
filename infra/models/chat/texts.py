"""Encodes plain text, with the control tokens that the tokenizer itself puts around a text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from infra.models.chat.control_tokens import ControlTokens
from infra.models.chat.encoded import Encoded
from infra.models.chat.encoder import Encoder, IdList, Position, Run
from infra.models.chat.refusal import Refusal, Rule
from infra.models.chat.speed import Speed

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

SAMPLE = "a"


class Texts:
    """Encodes texts, each with an eos token at its end."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, encoder: Encoder, controls: ControlTokens) -> None:
        self._tokenizer = tokenizer
        self._encoder = encoder
        self._controls = controls
        self._fast = Speed(self._encode)
        self._added = controls.count(self._with_added_tokens([SAMPLE])[0])

    def encode(self, texts: Sequence[str]) -> list[Encoded | Refusal]:
        """Encode each text; control tokens that it quotes become text."""
        if not texts:
            return []
        pairs = zip(texts, self._with_added_tokens(texts), strict=True)
        return [self._encoded(ids) if self._is_clean(text, ids) else self._literal(text) for text, ids in pairs]

    def _is_clean(self, text: str, ids: IdList) -> bool:
        return self._controls.first_in(text) is None and self._controls.count(ids) == self._added

    def _literal(self, text: str) -> Encoded | Refusal:
        run = Run(text, Position.BEGINNING, literal=True)
        (inside,) = self._encoder.encode([run])
        if self._controls.count(inside) or not self._encoder.writes(run, inside):
            return quoting(self._controls, [text])
        before, after = self._around()
        return self._encoded([*before, *inside, *after])

    def _around(self) -> tuple[IdList, IdList]:
        """Return the tokens that the tokenizer adds before and after a text."""
        (whole,) = self._with_added_tokens([SAMPLE])
        (inside,) = self._encoder.encode([Run(SAMPLE, Position.BEGINNING)])
        starts = (start for start in range(len(whole)) if whole[start : start + len(inside)] == inside)
        start = next(starts, len(whole))
        return whole[:start], whole[start + len(inside) :]

    def _encoded(self, ids: IdList) -> Encoded:
        eos = self._tokenizer.eos_token_id
        whole = ids if ids and ids[-1] == eos else [*ids, eos]
        return Encoded(whole, [(0, len(whole))], prompt=len(ids))

    def _with_added_tokens(self, texts: Sequence[str]) -> list[IdList]:
        return self._fast.encode(texts)

    def _encode(self, texts: list[str]) -> list[IdList]:
        ids: list[IdList] = self._tokenizer(texts, return_attention_mask=False).input_ids
        return ids


def quoting(controls: ControlTokens, texts: Sequence[str]) -> Refusal:
    """Return the refusal of a row whose texts cannot be encoded without control tokens."""
    quoted = next(filter(None, map(controls.first_in, texts)), "")
    return Refusal(Rule.CONTROL_TOKEN, "it quotes a control token that this tokenizer cannot write as text", quoted)
