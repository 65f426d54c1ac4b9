"""Tiny models for tests: a word-level tokenizer and a Llama of about 50,000 parameters."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from contracts.rows import Row, Turn

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

COLOURS = {"sky": "blue", "grass": "green", "snow": "white", "coal": "black", "blood": "red", "lemon": "yellow"}
TEMPLATE = (
    "{% for message in messages %}<|{{ message.role }}|> {{ message.content }} <|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def colour_row(thing: str, *, weight: float = 1.0) -> Row:
    """The conversation "what colour is <thing> ?" with its answer."""
    turns = (
        Turn(role="user", content=f"what colour is {thing} ?"),
        Turn(role="assistant", content=f"{thing} is {COLOURS[thing]}"),
    )
    return Row(id=thing, turns=turns, slice=COLOURS[thing], weight=weight)


def colour_rows(copies: int = 1) -> list[Row]:
    """Every colour row `copies` times, each with its own id."""
    rows = [colour_row(thing) for thing in COLOURS]
    return [row.model_copy(update={"id": f"{row.id}-{copy}"}) for copy in range(copies) for row in rows]


def tiny_tokenizer(*, template: str | None = TEMPLATE, words: Iterable[str] = ()) -> PreTrainedTokenizerFast:
    """A tokenizer with one token per word; `<|end|>` ends a chat turn and is the eos token."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    special = ["<pad>", "<unk>", "<|end|>", "<|user|>", "<|assistant|>", "<|system|>"]
    text = "what colour is ? a b c user assistant system : User Assistant System question answer"
    vocabulary = dict.fromkeys([*special, *text.split(), *COLOURS, *COLOURS.values(), *words])
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(vocabulary)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        unk_token="<unk>",
        eos_token="<|end|>",
        additional_special_tokens=special[3:],
    )
    fast.chat_template = template
    return fast


def tiny_model(vocabulary: int, *, seed: int = 0, hidden: int = 48) -> LlamaForCausalLM:
    """A Llama with two layers and 128 positions, whose weights are drawn with `seed`."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=hidden,
        intermediate_size=2 * hidden,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=128,
        tie_word_embeddings=True,
        pad_token_id=0,
        bos_token_id=None,
        eos_token_id=2,
    )
    return LlamaForCausalLM(config)


def save_tiny_model(folder: Path, *, seed: int = 0, template: str | None = TEMPLATE) -> Path:
    """Save a tiny model as a Hugging Face folder: config, safetensors and tokenizer."""
    tokenizer = tiny_tokenizer(template=template)
    tiny_model(len(tokenizer), seed=seed).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def save_adapter(folder: Path, base: Path, *, kind: str = "LoraConfig", seed: int = 1, **settings: object) -> Path:
    """Save an adapter of peft with random weights for the model in `base`, whose folder it names as its base."""
    import peft
    import torch
    from transformers import AutoModelForCausalLM

    torch.manual_seed(seed)
    defaults = {"r": 4, "target_modules": "all-linear", "init_lora_weights": False} if kind == "LoraConfig" else {}
    config = getattr(peft, kind)(task_type="CAUSAL_LM", **{**defaults, **settings})
    peft.get_peft_model(AutoModelForCausalLM.from_pretrained(base), config).save_pretrained(folder)
    return folder


def write_rows(path: Path, rows: Iterable[Row]) -> None:
    """Write one JSON object per line, as the optimizer does."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(row.model_dump_json() + "\n" for row in rows))
