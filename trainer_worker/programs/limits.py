"""The limits of the model and of the hyper-parameters."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from contracts.options import Hyperparameters, Method
from infra.errors import BadConfiguration

if TYPE_CHECKING:
    from transformers import PretrainedConfig


class RowLimit(NamedTuple):
    """The maximum tokens of one sequence, the field that sets it, and how to raise it."""

    tokens: int
    field: str
    advice: str


def check_rank(hyper: Hyperparameters, config: PretrainedConfig) -> None:
    """Raises BadConfiguration if the LoRA rank is higher than the model's hidden size."""
    hidden = getattr(config.get_text_config(), "hidden_size", None)
    if hyper.method is Method.LORA and hidden is not None and hyper.lora_rank > hidden:
        raise BadConfiguration(
            f"lora_rank is {hyper.lora_rank}, but the model's hidden size is {hidden}; set it to {hidden} or less",
            field="lora_rank",
        )


def row_limit(hyper: Hyperparameters, config: PretrainedConfig) -> RowLimit:
    """Return the smallest of `max_length`, the tokens of a batch and the model's number of positions."""
    limits = [RowLimit(hyper.max_length, "max_length", f"raise max_length (now {hyper.max_length})")]
    batch = hyper.tokens_per_batch
    limits.append(RowLimit(batch, "tokens_per_batch", f"raise tokens_per_batch (now {batch})"))
    positions: int | None = getattr(config.get_text_config(), "max_position_embeddings", None)
    if positions:
        advice = f"the model has only {positions} positions; shorten the answers, or use a model with more"
        limits.append(RowLimit(positions, "model", advice))
    return min(limits, key=lambda limit: limit.tokens)
