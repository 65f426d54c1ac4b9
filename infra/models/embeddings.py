"""The number of tokens that a model can read."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel


def known_tokens(model: PreTrainedModel) -> int:
    """Return the number of tokens for which the model has an embedding."""
    embeddings: torch.nn.Embedding = model.get_input_embeddings()  # type: ignore[assignment]  # its rows are tokens
    return int(embeddings.weight.shape[0])
