"""The loss: cross entropy of the scored tokens, weighted by row, with logits only for scored positions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812  # torch's own idiom

from trainer_worker.programs.examples import Example

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True, slots=True)
class Scored:
    """A batch on its device: `ids` (rows, length), padded on the right; other tensors have shape (scored tokens,)."""

    ids: torch.Tensor
    positions: torch.Tensor
    """Index in the flattened batch of the hidden state that predicts the token."""
    targets: torch.Tensor
    weights: torch.Tensor
    tokens: int
    """Number of tokens in the batch that are not padding."""


def collate(examples: Sequence[Example], padding: int, device: torch.device) -> Scored:
    """Pad the examples on the right; under causal attention the padding does not affect a scored token."""
    length = max(len(example) for example in examples)
    ids = np.full((len(examples), length), padding, dtype=np.int64)
    weights = np.zeros((len(examples), length), dtype=np.float32)
    for row, example in enumerate(examples):
        ids[row, : len(example)] = example.ids
        weights[row, : len(example)] = example.weights
    rows, columns = np.nonzero(weights[:, 1:])
    return Scored(
        ids=torch.from_numpy(ids).to(device),
        positions=torch.from_numpy(rows * length + columns).to(device),
        targets=torch.from_numpy(ids[rows, columns + 1]).to(device),
        weights=torch.from_numpy(weights[rows, columns + 1]).to(device),
        tokens=sum(len(example) for example in examples),
    )


def loss_of(model: PreTrainedModel, batch: Scored) -> torch.Tensor:
    """Return the weighted mean negative log likelihood of the batch's scored tokens, in nats, as a scalar."""
    logits = scored_logits(model, batch)
    losses = F.cross_entropy(logits.float(), batch.targets, reduction="none")
    return (losses * batch.weights).sum() / batch.weights.sum()


def scored_logits(model: PreTrainedModel, batch: Scored) -> torch.Tensor:
    """Return logits of shape (scored tokens, vocabulary).

    The output head gets only the scored hidden states. With a large vocabulary this saves most of the memory and, with
    many unscored tokens, much of the time.
    """

    def compact(_: torch.nn.Module, hidden: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        return (hidden[0].flatten(0, 1).index_select(0, batch.positions), *hidden[1:])

    head: torch.nn.Module = model.get_output_embeddings()  # type: ignore[no-untyped-call]
    hook = head.register_forward_pre_hook(compact)
    try:
        logits: torch.Tensor = model(input_ids=batch.ids, use_cache=False).logits
    finally:
        hook.remove()
    return logits
