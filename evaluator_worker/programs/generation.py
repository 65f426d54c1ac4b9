"""Greedy answers to many prompts at once; which prompts share a batch changes none of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from transformers import GenerationConfig

from evaluator_worker.programs.batches import by_length, padded
from infra.child.program import Job, Stopped

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from infra.models.chat_format import ChatFormat

MOST_TOKENS = 1 << 17
"""Prompt tokens, padding included, of one batch."""


class Greedy:
    """A model that answers with its most likely token at each step until it ends the turn or has had enough."""

    def __init__(self, model: PreTrainedModel, chat: ChatFormat, *, max_new_tokens: int, batch_size: int) -> None:
        self._model = model
        self._batch_size = batch_size
        self._fill = chat.eos
        self._stops = chat.stop_ids
        self._config = GenerationConfig(  # type: ignore[no-untyped-call]  # transformers leaves it unannotated
            do_sample=False,
            num_beams=1,
            max_new_tokens=max_new_tokens,
            eos_token_id=list(self._stops),
            pad_token_id=self._fill,
            use_cache=True,
        )
        # A hub model may bring sampling temperatures and penalties; a score must not depend on them.
        model.generation_config = GenerationConfig()  # type: ignore[no-untyped-call]

    def answers(self, prompts: Sequence[Sequence[int]], job: Job, stage: str) -> list[list[int]]:
        """The new tokens after each prompt, without the token that ended them. Raises Stopped between batches."""
        batches = by_length([len(prompt) for prompt in prompts], self._batch_size, MOST_TOKENS)
        answers: list[list[int]] = [[] for _ in prompts]
        for batch in job.track(batches, stage, len(batches)):
            if job.stop.is_set():
                raise Stopped
            for index, answer in zip(batch, self._batch([prompts[i] for i in batch]), strict=True):
                answers[index] = answer
        return answers

    @torch.inference_mode()
    def _batch(self, prompts: list[Sequence[int]]) -> list[list[int]]:
        device = self._model.device
        ids = padded(prompts, self._fill, left=True, device=device)
        mask = padded([[1] * len(prompt) for prompt in prompts], 0, left=True, device=device)
        grown = self._model.generate(  # type: ignore[operator]  # mixed in where the stubs do not see it
            ids, attention_mask=mask, generation_config=self._config
        )
        return [self._ended(answer) for answer in grown[:, ids.shape[1] :].tolist()]

    def _ended(self, answer: list[int]) -> list[int]:
        end = next((i for i, token in enumerate(answer) if token in self._stops), len(answer))
        return answer[:end]
