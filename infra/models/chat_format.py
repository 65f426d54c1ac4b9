"""Converts rows to tokens, with the same chat template and the same scored tokens in training and evaluation.

Only programs import this module, because it needs a tokenizer of transformers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from jinja2 import TemplateError

from contracts.rows import Row, Turn
from infra.errors import BadConfiguration, BadInput

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

PLAIN_TEMPLATE = (
    "{{ bos_token if bos_token else '' }}"
    "{% for message in messages %}"
    "{% if message.role == 'assistant' %}Assistant: {{ message.content }}{{ eos_token }}\n"
    "{% else %}{{ message.role | capitalize }}: {{ message.content }}\n{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}Assistant:{% endif %}"
)
"""Used for tokenizers without a chat template."""
Ids = npt.NDArray[np.int32]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Rendered:
    """One row as tokens: `ids` of shape (length,), and `scored`, true for each token that counts for the loss."""

    ids: Ids
    scored: Mask


class ChatFormat:
    """A tokenizer with its chat template, or with PLAIN_TEMPLATE if it has none.

    Raises BadConfiguration if the tokenizer has no eos token, because a model could not learn to stop.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        if tokenizer.eos_token_id is None:
            raise BadConfiguration(
                "the tokenizer has no eos_token; expected a token that ends an answer", field="model"
            )
        self._tokenizer = tokenizer
        self.template: str = tokenizer.chat_template or PLAIN_TEMPLATE
        self.eos: int = tokenizer.eos_token_id
        self.closing: int = self._closing()
        """The token with which the template ends the assistant's turn; eos if it writes no such token."""
        self.stop_ids: tuple[int, ...] = tuple(dict.fromkeys((self.closing, self.eos)))
        """Tokens at which generation ends."""

    def prompt_ids(self, row: Row, max_length: int | None = None) -> list[int]:
        """Tokens from which the answer is generated, the same as before the answer in `render`; cut at their start."""
        if row.text is not None:
            ids = self._encode([row.text], special=True)[0]
        else:
            ids = self._encode([self._prompt(row, row.turns[:-1])])[0]
        return [int(token) for token in self._shorten(np.asarray(ids, dtype=np.int32), max_length)]

    def render(self, rows: Sequence[Row], max_length: int | None = None) -> list[Rendered | None]:
        """One Rendered per row, of at most `max_length` tokens; None if the last answer alone does not fit.

        In a conversation, each assistant turn is scored up to its end-of-turn token; in plain text, every token.
        A conversation that is too long loses its start; plain text loses its end.
        """
        texts = self._encode([row.text for row in rows if row.text is not None], special=True)
        chats = self._encode_chats([row for row in rows if row.text is None])
        plain = (self._render_text(ids, max_length) for ids in texts)
        turns = (self._render_chat(ids, starts, max_length) for ids, starts in chats)
        return [next(turns) if row.text is None else next(plain) for row in rows]

    def _render_text(self, ids: list[int], max_length: int | None) -> Rendered:
        with_eos = ids if ids and ids[-1] == self.eos else [*ids, self.eos]
        array = np.asarray(with_eos[:max_length], dtype=np.int32)
        return Rendered(array, np.ones(len(array), dtype=np.bool_))

    def _render_chat(self, ids: list[int], starts: list[int], max_length: int | None) -> Rendered | None:
        """Score each answer from its start to its first stop token, and drop the tokens after the last answer."""
        end = self._answer_end(ids, starts[-1], len(ids))
        ids = ids[:end] if end else [*ids, self.closing]
        answer = len(ids) - starts[-1]
        if max_length is not None and answer >= max_length:
            return None
        scored = np.zeros(len(ids), dtype=np.bool_)
        scored[starts[-1] :] = True
        for start, following in pairwise(starts):
            # If the template does not close an inner turn, its end is unknown, so it is not scored.
            scored[start : self._answer_end(ids, start, following) or start] = True
        return Rendered(
            self._shorten(np.asarray(ids, dtype=np.int32), max_length),
            scored[-max_length:] if max_length else scored,
        )

    def _answer_end(self, ids: list[int], start: int, limit: int) -> int:
        """The position after the first stop token in `ids[start:limit]`; 0 if there is none."""
        return next((i + 1 for i in range(start, limit) if ids[i] in self.stop_ids), 0)

    def _shorten(self, ids: Ids, max_length: int | None) -> Ids:
        """The last `max_length` tokens; if `ids` starts with the bos token, the result does too."""
        if max_length is None or len(ids) <= max_length:
            return ids
        kept = ids[-max_length:].copy()
        if ids[0] == self._tokenizer.bos_token_id:
            kept[0] = ids[0]
        return kept

    def _encode_chats(self, rows: Sequence[Row]) -> Iterator[tuple[list[int], list[int]]]:
        """The tokens of each conversation, and the positions at which its answers start.

        The tokens of the last prompt are always a prefix, as in generation: if a token would cross the end of the
        prompt, the text after it is tokenized separately.
        """
        texts = [self._texts(row) for row in rows]
        encoded = iter(self._encode([text for prompts, whole in texts for text in (*prompts, whole)]))
        for prompts, whole in texts:
            prefixes = [next(encoded) for _ in prompts]
            ids = next(encoded)
            if ids[: len(prefixes[-1])] != prefixes[-1]:
                ids = prefixes[-1] + self._encode([whole[len(prompts[-1]) :]])[0]
            yield ids, [len(prefix) for prefix in prefixes if ids[: len(prefix)] == prefix]

    def _texts(self, row: Row) -> tuple[list[str], str]:
        """The prompt of each answer, and the whole conversation, which starts with the last prompt."""
        if not row.turns or row.turns[-1].role != "assistant":
            raise BadInput(f"row {row.id}: expected turns that end with the assistant's answer", field="turns")
        prompts = [
            self._prompt(row, row.turns[:index]) for index, turn in enumerate(row.turns) if turn.role == "assistant"
        ]
        whole = self._apply(row, row.turns, prompt=False)
        if not whole.startswith(prompts[-1]):
            # The template changes the turn once it has an answer; generation cannot do that, so training does not.
            whole = prompts[-1] + row.turns[-1].content
        return prompts, whole

    def _prompt(self, row: Row, turns: Sequence[Turn]) -> str:
        return self._apply(row, turns, prompt=True)

    def _apply(self, row: Row, turns: Sequence[Turn], *, prompt: bool) -> str:
        messages = [{"role": turn.role, "content": turn.content} for turn in turns]
        try:
            text = self._tokenizer.apply_chat_template(
                messages, chat_template=self.template, tokenize=False, add_generation_prompt=prompt
            )
        except TemplateError as error:
            raise BadInput(f"row {row.id}: the tokenizer's chat template refuses it: {error}", field="turns") from error
        assert isinstance(text, str)  # one conversation, not tokenized
        return text

    def _encode(self, texts: list[str], *, special: bool = False) -> list[list[int]]:
        """Token ids of each text; `special` adds the tokenizer's bos and eos, which chat templates add themselves."""
        if not texts:
            return []
        ids: list[list[int]] = self._tokenizer(texts, add_special_tokens=special, return_attention_mask=False).input_ids
        return ids

    def _closing(self) -> int:
        """The first special token that the template writes after an answer."""
        probe = Row(id="probe", turns=(Turn(role="user", content="question"), Turn(role="assistant", content="answer")))
        _, _, tail = self._texts(probe)[1].rpartition("answer")
        added = self._tokenizer.added_tokens_decoder
        special = {*self._tokenizer.all_special_ids, *(token for token, how in added.items() if how.special)}
        return next((token for token in self._encode([tail])[0] if token in special), self.eos)
