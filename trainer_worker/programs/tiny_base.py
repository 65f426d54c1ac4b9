"""Create a tiny Llama with random weights and a WordPiece tokenizer trained on texts, without the hub.

`python -m infra.child.program trainer_worker.programs.tiny_base DIR`, with the path of the texts in DIR/spec.json.
"""

from __future__ import annotations

import json
import string
from collections.abc import Iterable, Iterator
from pathlib import Path

import torch
from pydantic import Field
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from contracts.message import Frozen
from infra.child.program import Job
from infra.errors import BadInput

PAD, UNKNOWN, END, USER, ASSISTANT, SYSTEM = "<pad>", "<unk>", "<end>", "<user>", "<assistant>", "<system>"
SPECIAL = [PAD, UNKNOWN, END, USER, ASSISTANT, SYSTEM]
CONTINUATION_PREFIX = "##"
"""Prefix of a piece that does not begin a word."""
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<' + message['role'] + '>' }}"
    "{% if message['role'] == 'assistant' %}"
    "{% generation %}{{ message['content'] + eos_token }}{% endgeneration %}"
    "{% else %}{{ message['content'] }}{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<assistant>' }}{% endif %}"
)


class Spec(Frozen):
    """Sizes of the model; the defaults give about 0.7 million parameters, embeddings included."""

    texts: Path
    """Path of the JSON lines, each an object with `text`, from which the vocabulary is trained."""
    vocabulary: int = Field(default=1200, ge=300, le=100_000)
    hidden: int = Field(default=128, ge=16, le=4096)
    intermediate: int = Field(default=512, ge=16, le=16_384)
    layers: int = Field(default=2, ge=1, le=64)
    heads: int = Field(default=4, ge=1, le=64)
    context: int = Field(default=256, ge=32, le=131_072)
    """Maximum length of a sequence, in tokens."""
    seed: int = 1


class Result(Frozen):
    """Sizes of the created model."""

    parameters: int
    vocabulary: int


def main(spec: Spec, job: Job) -> Result:
    """Write tokenizer, config and safetensors to `out/`. Raises BadInput if a line of the texts is invalid."""
    tokenizer = train_tokenizer(_texts(spec.texts), spec)
    job.report("tokenizer trained", 1, 2)
    model = random_llama(spec, tokenizer)
    tokenizer.save_pretrained(job.out)
    model.save_pretrained(job.out)
    job.report("model written", 2, 2)
    return Result(parameters=model.num_parameters(), vocabulary=len(tokenizer))


def _texts(path: Path) -> Iterator[str]:
    with path.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            try:
                text = json.loads(line)["text"]
            except (ValueError, KeyError, TypeError) as error:
                location = f"{path.name}:{number}"
                raise BadInput(f"{location}: expected a JSON object with `text`", field=location) from error
            yield text


def train_tokenizer(texts: Iterable[str], spec: Spec) -> PreTrainedTokenizerFast:
    """Train a lower-case WordPiece tokenizer that splits off every punctuation mark and symbol.

    Decoding joins `_` to its neighbours again.
    """
    tokenizer = Tokenizer(models.WordPiece(_vocabulary(list(texts), spec.vocabulary), unk_token=UNKNOWN))
    _split_words(tokenizer)
    tokenizer.decoder = decoders.Sequence(
        [decoders.WordPiece(prefix=CONTINUATION_PREFIX), decoders.Fuse(), decoders.Replace(" _ ", "_")]
    )
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer,
        pad_token=PAD,
        unk_token=UNKNOWN,
        eos_token=END,
        additional_special_tokens=[USER, ASSISTANT, SYSTEM],
        model_max_length=spec.context,
        chat_template=CHAT_TEMPLATE,
    )


def _vocabulary(texts: list[str], size: int) -> dict[str, int]:
    """Return a vocabulary that is always the same for the same texts.

    The trainer numbers characters inside words in the order of a hash map, and breaks ties by those numbers. As special
    tokens they are numbered first, in a fixed order; only the vocabulary of this tokenizer is used.
    """
    trained = Tokenizer(models.WordPiece(unk_token=UNKNOWN))
    _split_words(trained)
    alphabet = sorted(set(string.printable) | {c for text in texts for c in trained.normalizer.normalize_str(text)})
    alphabet = [c for c in alphabet if not c.isspace() and not c.isupper()]
    trainer = trainers.WordPieceTrainer(
        vocab_size=size,
        special_tokens=[*SPECIAL, *(CONTINUATION_PREFIX + c for c in alphabet)],
        initial_alphabet=alphabet,
        continuing_subword_prefix=CONTINUATION_PREFIX,
        show_progress=False,
    )
    trained.train_from_iterator(texts, trainer)
    return trained.get_vocab()


def _split_words(tokenizer: Tokenizer) -> None:
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    marks = pre_tokenizers.Split(Regex(r"[\p{P}\p{S}_]"), behavior="isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), marks])


def random_llama(spec: Spec, tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    """Return a Llama with random weights from the seed; input and output embeddings share one matrix."""
    torch.manual_seed(spec.seed)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=spec.hidden,
        intermediate_size=spec.intermediate,
        num_hidden_layers=spec.layers,
        num_attention_heads=spec.heads,
        num_key_value_heads=spec.heads,
        max_position_embeddings=spec.context,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        tie_word_embeddings=True,
    )
    return LlamaForCausalLM(config)
