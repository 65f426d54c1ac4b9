"""Check the hyper-parameters and examples against the limits of the model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from contracts.options import Hyperparameters, Method, Stage
from infra.errors import BadConfiguration
from trainer_worker.programs.examples import Examples

if TYPE_CHECKING:
    import torch
    from transformers import PretrainedConfig, PreTrainedModel


def check_rank(hyper: Hyperparameters, config: PretrainedConfig) -> None:
    """Raises BadConfiguration if the LoRA rank is higher than the model's hidden size."""
    hidden = getattr(config.get_text_config(), "hidden_size", None)
    if hyper.method is Method.LORA and hidden is not None and hyper.lora_rank > hidden:
        raise BadConfiguration(
            f"lora_rank is {hyper.lora_rank}, but the model's hidden size is {hidden}; set it to {hidden} or less",
            field="lora_rank",
        )


def longest_row(hyper: Hyperparameters, config: PretrainedConfig) -> int:
    """Return the maximum tokens of one sequence: `max_length`, but no more than a batch holds.

    In stage `pt`, in which texts are packed into blocks, the model's number of positions is a limit too.
    """
    limit = min(hyper.max_length, hyper.tokens_per_batch)
    positions = _positions(config)
    return min(limit, positions) if positions and hyper.stage is Stage.PT else limit


def check_lengths(examples: Examples, config: PretrainedConfig) -> None:
    """Raises BadConfiguration if a row has more tokens than the model has positions."""
    positions, longest = _positions(config), max(examples.lengths())
    if positions and longest > positions:
        raise BadConfiguration(
            f"max_length allows rows of {longest} tokens, but the model has only {positions} positions; "
            f"set max_length to at most {positions}",
            field="max_length",
        )


def check_vocabulary(examples: Examples, model: PreTrainedModel) -> None:
    """Raises BadConfiguration if the tokenizer produces tokens for which the model has no embedding."""
    embeddings: torch.nn.Embedding = model.get_input_embeddings()  # type: ignore[assignment]  # its rows are tokens
    known = embeddings.weight.shape[0]
    highest = max(int(item.ids.max()) for item in examples.items)
    if highest >= known:
        raise BadConfiguration(
            f"the tokenizer produces token {highest}, but the model has {known} tokens; use the model's own tokenizer",
            field="model",
        )


def _positions(config: PretrainedConfig) -> int | None:
    return getattr(config.get_text_config(), "max_position_embeddings", None)
