"""Small trained tokenizers of two kinds: byte-level, and with a space before the first word as SentencePiece has it."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

CONTROL_TOKENS = ("<s>", "</s>", "<|im_start|>", "<|im_end|>")
_TEXTS = ["the kettle is in the kitchen behind the bicycle", "why does the lamp flicker at night ?", "user assistant"]
_WORD_BOUNDARY = "\u2581"


def byte_level(template: str | None = None) -> PreTrainedTokenizerFast:
    """A tokenizer that can write every text."""
    return _wrapped(_byte_level(), template)


def prefix_space(template: str | None = None, *, legacy: bool = False) -> PreTrainedTokenizerFast:
    """A tokenizer that writes a space before the first word and, if `legacy`, also after every control token."""
    return _wrapped(_prefix_space(legacy=legacy), template)


def _wrapped(tokenizer: Tokenizer, template: str | None) -> PreTrainedTokenizerFast:
    from transformers import PreTrainedTokenizerFast

    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>",
        eos_token="</s>",
        pad_token="</s>",
        additional_special_tokens=list(CONTROL_TOKENS[2:]),
    )
    fast.chat_template = template
    return fast


@cache
def _byte_level() -> Tokenizer:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=list(CONTROL_TOKENS), initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(_TEXTS * 20, trainer)
    return tokenizer


@cache
def _prefix_space(*, legacy: bool) -> Tokenizer:
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers

    words = {f"{_WORD_BOUNDARY}{word}" for text in _TEXTS for word in text.split()}
    letters = sorted({letter for word in words for letter in word})
    pieces = [*CONTROL_TOKENS, *(f"<0x{byte:02X}>" for byte in range(256)), *letters]
    merges: list[tuple[str, str]] = []
    for word in sorted(words):
        for end in range(1, len(word)):
            if word[: end + 1] not in pieces:
                pieces.append(word[: end + 1])
                merges.append((word[:end], word[end]))
    vocabulary = {piece: index for index, piece in enumerate(pieces)}
    tokenizer = Tokenizer(models.BPE(vocabulary, merges, byte_fallback=True))
    tokenizer.add_special_tokens(list(CONTROL_TOKENS))
    if legacy:
        tokenizer.normalizer = normalizers.Sequence(
            [normalizers.Prepend(_WORD_BOUNDARY), normalizers.Replace(" ", _WORD_BOUNDARY)]
        )
    else:
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace(_WORD_BOUNDARY, " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return tokenizer
