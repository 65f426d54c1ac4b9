"""Encodes texts at the beginning, in the middle or after a control token of a longer text, also literally."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from typing import TYPE_CHECKING

from tokenizers import Tokenizer

from infra.models.chat.control_tokens import ControlTokens
from infra.models.chat.speed import Speed
from infra.models.library_errors import as_bad_configuration

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

IdList = list[int]
ANCHORS = ("\n", "a")
"""Texts whose tokens are removed again; the second one serves texts that begin with a newline."""
WORD_BOUNDARY = "\u2581"
"""The sign for a space in the vocabularies of SentencePiece."""


class Position(Enum):
    """Where a text stands: some tokenizers write a space before the first word, some also after a control token."""

    BEGINNING = 0
    MIDDLE = 1
    AFTER_CONTROL_TOKEN = 2


@dataclass(frozen=True, slots=True)
class Run:
    """A text to encode; `literal`: without control tokens."""

    text: str
    position: Position
    literal: bool = False


class Encoder:
    """The tokenizer of a model, without the control tokens that it adds by itself."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, controls: ControlTokens) -> None:
        self._tokenizer = tokenizer
        backend: Tokenizer | None = getattr(tokenizer, "backend_tokenizer", None)
        self._backend = None if backend is None else _unlimited(backend)
        self._controls = controls
        self._fast, self._fast_literal = Speed(self._encode), Speed(self._encode_literally)
        self._anchors: dict[Position, tuple[str, ...]] = dict.fromkeys(Position, ())
        (alone, after_control_token) = self._plain(["a", f"{tokenizer.eos_token}a"])
        if self._behind(ANCHORS, ["a"]) != [alone]:
            self._anchors[Position.MIDDLE] = ANCHORS
            if after_control_token[1:] != alone:
                self._anchors[Position.AFTER_CONTROL_TOKEN] = ANCHORS

    def encode(self, runs: Sequence[Run]) -> list[IdList]:
        """Return the token ids of each run."""
        groups: dict[tuple[Position, bool], list[int]] = defaultdict(list)
        for index, run in enumerate(runs):
            groups[run.position, run.literal].append(index)
        encoded: list[IdList] = [[] for _ in runs]
        for (position, literal), indices in groups.items():
            texts = [runs[index].text for index in indices]
            for index, ids in zip(indices, self._behind(self._anchors[position], texts, literal=literal), strict=True):
                encoded[index] = ids
        return encoded

    def writes(self, run: Run, ids: IdList) -> bool:
        """Whether the tokens decode to the run's text, as the tokenizer normalizes it and without white space."""
        with as_bad_configuration("the model's tokenizer cannot decode its own tokens"):
            decoded = self._tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
            return self._visible(str(decoded)) == self._visible(run.text)

    def _behind(self, anchors: Sequence[str], texts: list[str], *, literal: bool = False) -> list[IdList]:
        """Encode each text behind an anchor, so that it is not the beginning, and remove the anchor's tokens."""
        encoded: dict[int, IdList] = {}
        left = list(range(len(texts)))
        for anchor in anchors:
            (head,) = self._plain([anchor], literal=literal)
            for index, ids in zip(left, self._plain([anchor + texts[i] for i in left], literal=literal), strict=True):
                if ids[: len(head)] == head:
                    encoded[index] = ids[len(head) :]
            left = [index for index in left if index not in encoded]
        encoded |= zip(left, self._plain([texts[index] for index in left], literal=literal), strict=True)
        return [encoded[index] for index in range(len(texts))]

    def _plain(self, texts: list[str], *, literal: bool = False) -> list[IdList]:
        if not texts:
            return []
        if not literal:
            return self._fast.encode(texts)
        _ = self._backend and self._literal  # make the copy, which takes time, before it is timed
        return self._fast_literal.encode(texts)

    def _encode(self, texts: list[str]) -> list[IdList]:
        if self._backend is None:
            return self._without_backend(texts, literal=False)
        return [encoding.ids for encoding in self._backend.encode_batch_fast(texts, add_special_tokens=False)]

    def _encode_literally(self, texts: list[str]) -> list[IdList]:
        if self._backend is None:
            return self._without_backend(texts, literal=True)
        return [encoding.ids for encoding in self._literal.encode_batch_fast(texts, add_special_tokens=False)]

    def _without_backend(self, texts: list[str], *, literal: bool) -> list[IdList]:
        """Encode with a tokenizer that is written in Python."""
        options = {"split_special_tokens": True} if literal else {}
        ids: list[IdList] = self._tokenizer(
            texts, add_special_tokens=False, return_attention_mask=False, **options
        ).input_ids
        return ids

    @cached_property
    def _literal(self) -> Tokenizer:
        """A copy of the tokenizer that does not recognise control tokens."""
        assert self._backend is not None
        state = json.loads(self._backend.to_str())
        for token in state["added_tokens"]:
            token["special"] = token["special"] or token["content"] in self._controls.marks
        copy = Tokenizer.from_str(json.dumps(state))
        copy.encode_special_tokens = True
        return _unlimited(copy)

    def _visible(self, text: str) -> str:
        normalizer = self._backend.normalizer if self._backend is not None else None
        normalized = normalizer.normalize_str(text) if normalizer else text
        return "".join(normalized.replace(WORD_BOUNDARY, " ").split())


def _unlimited(backend: Tokenizer) -> Tokenizer:
    """Turn off truncation and padding, which some tokenizers bring along."""
    backend.no_truncation()
    backend.no_padding()
    return backend
