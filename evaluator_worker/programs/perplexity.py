"""Compute the log-probability that a model gives to each scored token, given all tokens before it."""

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

MAX_BATCH_LOGITS = 1 << 28
"""Maximum number of logits in one batch, padding included: 1 GB in float32."""


def scored_tokens(rendered: Rendered) -> int:
    """Count the scored tokens, except the first token of the row, which has no predecessor to predict it from."""
    return int(rendered.scored[1:].sum())


def log_probabilities(
    model: PreTrainedModel, rendered: Sequence[Rendered], batch_size: int, job: Job, stage: str
) -> list[float]:
    """Return for each row the summed log-probability of its scored tokens, in nats.

    Raises Stopped between batches if a stop is requested.
    """
    max_tokens = MAX_BATCH_LOGITS // model.config.get_text_config().vocab_size
    batches = by_length([len(r.ids) for r in rendered], batch_size, max_tokens)
    sums = [0.0] * len(rendered)
    for batch in job.track(batches, stage, len(batches)):
        if job.stop.is_set():
            raise Stopped
        for index, value in zip(batch, _batch(model, [rendered[i] for i in batch]), strict=True):
            sums[index] = value
    return sums


@torch.inference_mode()
def _batch(model: PreTrainedModel, rendered: list[Rendered]) -> list[float]:
    """Score one batch, padded on the right, which a scored token does not see under a causal mask."""
    ids = padded([r.ids.tolist() for r in rendered], 0, left=False, device=model.device)
    scored = padded([r.scored.tolist() for r in rendered], 0, left=False, device=model.device)[:, 1:]
    mask = padded([[1] * len(r.ids) for r in rendered], 0, left=False, device=model.device)
    logits = model(input_ids=ids, attention_mask=mask, use_cache=False).logits[:, :-1]
    losses = cross_entropy(logits.flatten(0, 1).float(), ids[:, 1:].flatten(), reduction="none")
    # Not multiplied by the mask: the loss of an impossible token is infinite, and infinity times 0 is NaN.
    per_row = losses.view_as(scored).masked_fill(scored == 0, 0).double().sum(dim=1)
    return [-float(loss) for loss in per_row]
