"""How likely a model finds given tokens: log-probabilities of the scored ones, given all before them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch.nn.functional import cross_entropy

from evaluator_worker.programs.batches import by_length, padded
from infra.child.program import Job, Stopped

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from infra.models.chat_format import Rendered

MOST_LOGITS = 1 << 28
"""Logits of one batch, padding included: 1 GB in float32, however large the vocabulary."""


def scored_tokens(rendered: Rendered) -> int:
    """Tokens that a probability can be given: the scored ones, but never the first, which nothing stands before."""
    return int(rendered.scored[1:].sum())


def log_probabilities(
    model: PreTrainedModel, rendered: Sequence[Rendered], batch_size: int, job: Job, stage: str
) -> list[float]:
    """For each row the sum of its scored tokens' natural log-probabilities. Raises Stopped between batches."""
    most_tokens = MOST_LOGITS // model.config.get_text_config().vocab_size
    batches = by_length([len(r.ids) for r in rendered], batch_size, most_tokens)
    sums = [0.0] * len(rendered)
    for batch in job.track(batches, stage, len(batches)):
        if job.stop.is_set():
            raise Stopped
        for index, value in zip(batch, _batch(model, [rendered[i] for i in batch]), strict=True):
            sums[index] = value
    return sums


@torch.inference_mode()
def _batch(model: PreTrainedModel, rendered: list[Rendered]) -> list[float]:
    """Right padding: under a causal mask no scored token sees it."""
    ids = padded([r.ids.tolist() for r in rendered], 0, left=False, device=model.device)
    scored = padded([r.scored.tolist() for r in rendered], 0, left=False, device=model.device)[:, 1:]
    mask = padded([[1] * len(r.ids) for r in rendered], 0, left=False, device=model.device)
    logits = model(input_ids=ids, attention_mask=mask, use_cache=False).logits[:, :-1]
    losses = cross_entropy(logits.flatten(0, 1).float(), ids[:, 1:].flatten(), reduction="none")
    # Not multiplied by the mask: a token that is given no probability costs infinity, and infinity times 0 is NaN.
    per_row = losses.view_as(scored).masked_fill(scored == 0, 0).double().sum(dim=1)
    return [-float(loss) for loss in per_row]
