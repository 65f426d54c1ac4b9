"""Generate greedy answers to batches of prompts; an answer does not depend on the other prompts of its batch."""

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

MAX_BATCH_TOKENS = 1 << 17
"""Maximum number of prompt tokens in one batch, padding included."""


class GreedyGenerator:
    """Generates the most likely token at each step, until a stop token or `max_new_tokens`."""

    def __init__(self, model: PreTrainedModel, chat: ChatFormat, *, max_new_tokens: int, batch_size: int) -> None:
        self._model = model
        self._batch_size = batch_size
        self._pad_id = chat.eos
        self._stop_ids = chat.stop_ids
        self._config = GenerationConfig(  # type: ignore[no-untyped-call]  # transformers leaves it unannotated
            do_sample=False,
            num_beams=1,
            max_new_tokens=max_new_tokens,
            eos_token_id=list(self._stop_ids),
            pad_token_id=self._pad_id,
            use_cache=True,
        )
        # A hub model may set sampling temperatures and penalties; a score must not depend on them.
        model.generation_config = GenerationConfig()  # type: ignore[no-untyped-call]

    def answers(self, prompts: Sequence[Sequence[int]], job: Job, stage: str) -> list[list[int]]:
        """Return the new tokens after each prompt, without the stop token.

        Raises Stopped between batches if a stop is requested.
        """
        batches = by_length([len(prompt) for prompt in prompts], self._batch_size, MAX_BATCH_TOKENS)
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
        ids = padded(prompts, self._pad_id, left=True, device=device)
        mask = padded([[1] * len(prompt) for prompt in prompts], 0, left=True, device=device)
        generated = self._model.generate(  # type: ignore[operator]  # the stubs do not show this mixin method
            ids, attention_mask=mask, generation_config=self._config
        )
        return [self._before_stop(answer) for answer in generated[:, ids.shape[1] :].tolist()]

    def _before_stop(self, answer: list[int]) -> list[int]:
        end = next((i for i, token in enumerate(answer) if token in self._stop_ids), len(answer))
        return answer[:end]
