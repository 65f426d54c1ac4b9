"""Hyper-parameters against the model that they are for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from contracts.options import Hyperparameters, Method, Stage
from infra.errors import BadConfiguration
from trainer_worker.programs.examples import Examples

if TYPE_CHECKING:
    import torch
    from transformers import PretrainedConfig, PreTrainedModel


def check_rank(hyper: Hyperparameters, config: PretrainedConfig) -> None:
    """Raises BadConfiguration where an adapter would be larger than the layers it adapts."""
    hidden = getattr(config.get_text_config(), "hidden_size", None)
    if hyper.method is Method.LORA and hidden is not None and hyper.lora_rank > hidden:
        raise BadConfiguration(
            f"lora_rank is {hyper.lora_rank}, but the model's hidden size is {hidden}; expected at most that",
            field="lora_rank",
        )


def longest_row(hyper: Hyperparameters, config: PretrainedConfig) -> int:
    """Tokens of one sequence at most: `max_length`, but never more than a batch holds.

    Plain text is packed into blocks of our own making, so there the model's own limit counts too.
    """
    limit = min(hyper.max_length, hyper.tokens_per_batch)
    positions = _positions(config)
    return min(limit, positions) if positions and hyper.stage is Stage.PT else limit


def check_lengths(examples: Examples, config: PretrainedConfig) -> None:
    """Raises BadConfiguration where a row is longer than the positions that the model knows."""
    positions, longest = _positions(config), max(examples.lengths())
    if positions and longest > positions:
        raise BadConfiguration(
            f"max_length lets rows of {longest} tokens through, but the model knows {positions} positions; "
            f"set max_length to at most {positions}",
            field="max_length",
        )


def check_vocabulary(examples: Examples, model: PreTrainedModel) -> None:
    """Raises BadConfiguration where the tokenizer makes tokens that the model has no embedding for."""
    embeddings: torch.nn.Embedding = model.get_input_embeddings()  # type: ignore[assignment]  # its rows are tokens
    known = embeddings.weight.shape[0]
    highest = max(int(item.ids.max()) for item in examples.items)
    if highest >= known:
        raise BadConfiguration(
            f"the tokenizer makes token {highest}, but the model knows {known} tokens; use the model's own tokenizer",
            field="model",
        )


def _positions(config: PretrainedConfig) -> int | None:
    return getattr(config.get_text_config(), "max_position_embeddings", None)
