"""Generate greedy answers to batches of prompts; an answer does not depend on the other prompts of its batch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from transformers import GenerationConfig

from evaluator_worker.programs.batches import by_length, padded
from infra.child.program import Job, Stopped

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from infra.models.chat_format import ChatFormat

MAX_BATCH_TOKENS = 1 << 17
"""Maximum number of tokens of prompts and answers in one batch, padding included."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The new tokens after a prompt, without the stop token; `cut`: the limit ended them."""

    tokens: list[int]
    cut: bool


class GreedyGenerator:
    """Generates the most likely token at each step, until a stop token or a limit."""

    def __init__(self, model: PreTrainedModel, chat: ChatFormat, *, batch_size: int) -> None:
        self._model = model
        self._batch_size = batch_size
        self._pad_id = chat.eos
        self._stop_ids = chat.stop_ids
        # A hub model may set sampling temperatures and penalties; a score must not depend on them.
        model.generation_config = GenerationConfig()  # type: ignore[no-untyped-call]  # it has no annotations

    def answers(self, prompts: Sequence[Sequence[int]], limits: Sequence[int], job: Job, stage: str) -> list[Answer]:
        """Return the answer to each prompt, of at most as many tokens as `limits` says.

        Raises Stopped between batches if a stop is requested.
        """
        batches = list(self._batches(prompts, limits))
        answers: dict[int, Answer] = {}
        for batch in job.track(batches, stage, len(batches)):
            if job.stop.is_set():
                raise Stopped
            generated = self._batch([prompts[index] for index in batch], limits[batch[0]])
            answers |= zip(batch, generated, strict=True)
        return [answers[index] for index in range(len(prompts))]

    def _batches(self, prompts: Sequence[Sequence[int]], limits: Sequence[int]) -> Iterator[list[int]]:
        """Yield batches of prompts with the same limit."""
        for limit in sorted(set(limits), reverse=True):
            group = [index for index, other in enumerate(limits) if other == limit]
            lengths = [len(prompts[index]) + limit for index in group]
            for batch in by_length(lengths, self._batch_size, MAX_BATCH_TOKENS):
                yield [group[position] for position in batch]

    @torch.inference_mode()
    def _batch(self, prompts: list[Sequence[int]], limit: int) -> Iterator[Answer]:
        device = self._model.device
        ids = padded(prompts, self._pad_id, left=True, device=device)
        mask = padded([[1] * len(prompt) for prompt in prompts], 0, left=True, device=device)
        generated = self._model.generate(  # type: ignore[operator]  # the stubs do not show this mixin method
            ids, attention_mask=mask, generation_config=self._config(limit)
        )
        return map(self._answer, generated[:, ids.shape[1] :].tolist())

    def _answer(self, tokens: list[int]) -> Answer:
        end = next((index for index, token in enumerate(tokens) if token in self._stop_ids), None)
        return Answer(tokens[:end], cut=end is None)

    def _config(self, limit: int) -> GenerationConfig:
        return GenerationConfig(  # type: ignore[no-untyped-call]
            do_sample=False,
            num_beams=1,
            max_new_tokens=limit,
            eos_token_id=list(self._stop_ids),
            pad_token_id=self._pad_id,
            use_cache=True,
        )
