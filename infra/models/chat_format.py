"""Converts rows to tokens, with the same chat template and the same scored tokens in training and evaluation.

Only programs import this module, because it needs a tokenizer of transformers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from contracts.rows import Row
from infra.errors import BadConfiguration
from infra.models.chat.control_tokens import ControlTokens
from infra.models.chat.conversations import Conversations
from infra.models.chat.encoded import Encoded
from infra.models.chat.encoder import Encoder
from infra.models.chat.probing import QUESTION_AND_ANSWER, probe
from infra.models.chat.refusal import Refusal, Rule
from infra.models.chat.skeletons import Skeletons
from infra.models.chat.template import PLAIN_TEMPLATE, Template
from infra.models.chat.texts import Texts

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["PLAIN_TEMPLATE", "ChatFormat", "Ids", "Mask", "Refusal", "Rendered", "Rule"]

Ids = npt.NDArray[np.int32]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Rendered:
    """One row as tokens: `ids` of shape (length,), and `scored`, true for each token that counts for the loss."""

    ids: Ids
    scored: Mask
    prompt: int
    """Number of tokens before the last answer."""
    shortened: bool = False
    """Whether the row was longer: a conversation lost its start, or plain text its end."""
    reasoning_left_out: bool = False
    """Whether the template leaves out the reasoning of an earlier turn."""
    begun: str = ""
    """The mark of reasoning with which the prompt ends, for example `<think>`, so that the answer continues it."""


class ChatFormat:
    """A tokenizer with its chat template, or with PLAIN_TEMPLATE if it has none.

    `known` is the number of tokens for which the model has an embedding. Raises BadConfiguration if the tokenizer has
    no eos token, because a model could not learn to stop, or if the template cannot render a question and its answer.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, known: int | None = None) -> None:
        if tokenizer.eos_token_id is None:
            raise BadConfiguration(
                "the tokenizer has no eos_token; expected a token that ends an answer", field="model"
            )
        self._tokenizer = tokenizer
        self._known = known
        template = Template(tokenizer)
        self.template: str = template.source
        self.eos: int = tokenizer.eos_token_id
        controls, closing = probe(tokenizer, template)
        self.closing: int = closing
        """The token with which the template ends the assistant's turn; eos if it writes no such token."""
        self.stop_ids: tuple[int, ...] = tuple(dict.fromkeys((self.closing, self.eos)))
        """Tokens at which generation ends."""
        encoder = Encoder(tokenizer, controls)
        skeletons = Skeletons(template, controls, tokenizer.convert_ids_to_tokens(list(self.stop_ids)))
        self._texts = Texts(tokenizer, encoder, controls)
        self._conversations = Conversations(skeletons, encoder, controls, self.stop_ids, self.closing)
        self._require_known_tokens(controls)

    def prompt_ids(self, row: Row, max_length: int | None = None) -> list[int] | Refusal:
        """Tokens from which the answer is generated, the same as before the answer in `render`; cut at their start."""
        (encoded,) = self._encode([row])
        if isinstance(encoded, Refusal):
            return encoded
        prompt = self._shorten(np.asarray(encoded.ids[: encoded.prompt], dtype=np.int32), max_length)
        return [int(token) for token in prompt]

    def render(self, rows: Sequence[Row], max_length: int | None = None) -> list[Rendered | Refusal]:
        """The tokens of each row, at most `max_length`, or why it has none.

        In a conversation, each learnt answer is scored, with the token that ends it; in plain text, every token. A
        conversation ends with its last learnt answer. If it is too long it loses its start, but is refused if that
        answer does not fit; plain text loses its end.
        """
        return [
            encoded if isinstance(encoded, Refusal) else self._rendered(row, encoded, max_length)
            for row, encoded in zip(rows, self._encode(rows), strict=True)
        ]

    def _encode(self, rows: Sequence[Row]) -> list[Encoded | Refusal]:
        texts = iter(self._texts.encode([row.text for row in rows if row.text is not None]))
        conversations = iter(self._conversations.encode([row for row in rows if row.text is None]))
        return [self._known_tokens(next(conversations if row.text is None else texts)) for row in rows]

    def _known_tokens(self, encoded: Encoded | Refusal) -> Encoded | Refusal:
        """Refuse a row with a token for which the model has no embedding."""
        if isinstance(encoded, Refusal) or self._known is None or max(encoded.ids) < self._known:
            return encoded
        return Refusal(
            Rule.UNKNOWN_TOKEN,
            "it has tokens for which the model has no embedding",
            f"the model has {self._known}",
        )

    def _rendered(self, row: Row, encoded: Encoded, max_length: int | None) -> Rendered | Refusal:
        if row.text is not None:
            ids = np.asarray(encoded.ids[:max_length], dtype=np.int32)
            return Rendered(ids, np.ones(len(ids), dtype=np.bool_), encoded.prompt, len(ids) < len(encoded.ids))
        if not encoded.answers:
            return Refusal(Rule.NOT_LEARNT, "none of its answers is to be learnt")
        prompt, end = encoded.answers[-1]
        if max_length is not None and end - prompt >= max_length:
            return Refusal(Rule.TOO_LONG, f"its answer does not fit into {max_length} tokens with a prompt")
        scored = np.zeros(end, dtype=np.bool_)
        for start, stop in encoded.answers:
            scored[start:stop] = True
        ids = self._shorten(np.asarray(encoded.ids[:end], dtype=np.int32), max_length)
        cut = end - len(ids)
        return Rendered(ids, scored[cut:], prompt - cut, cut > 0, encoded.reasoning_left_out, encoded.begun)

    def _shorten(self, ids: Ids, max_length: int | None) -> Ids:
        """The last `max_length` tokens; if `ids` starts with the bos token, the result does too."""
        if max_length is None or len(ids) <= max_length:
            return ids
        kept = ids[-max_length:].copy()
        if ids[0] == self._tokenizer.bos_token_id:
            kept[0] = ids[0]
        return kept

    def _require_known_tokens(self, controls: ControlTokens) -> None:
        """Raise BadConfiguration if a token that frames every answer lies beyond the model's embeddings."""
        (encoded,) = self._conversations.encode([QUESTION_AND_ANSWER])
        if isinstance(encoded, Refusal):
            raise BadConfiguration(f"the tokenizer cannot encode a question and its answer: {encoded}", field="model")
        highest = max([*self.stop_ids, *controls.ids.intersection(encoded.ids)])
        if self._known is not None and highest >= self._known:
            raise BadConfiguration(
                f"the tokenizer writes token {highest} around answers, but the model has {self._known} tokens; "
                "use the model's own tokenizer",
                field="model",
            )
