"""Generate greedy answers to batches of prompts; an answer does not depend on the other prompts of its batch."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import torch
from transformers import GenerationConfig, StoppingCriteria, StoppingCriteriaList

from evaluator_worker.programs.batches import by_length, padded
from infra.child.program import Job, Stopped

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from infra.models.chat_format import ChatFormat

MAX_BATCH_TOKENS = 1 << 17
"""Maximum number of tokens of prompts and answers in one batch, padding included."""

LONG_BATCH = 30.0
"""Seconds between two reports within one batch."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The new tokens after a prompt, without the stop token; `cut`: the limit ended them."""

    tokens: list[int]
    cut: bool


class TokenReports(StoppingCriteria):
    """Reports the tokens of a batch whose answers take long; it stops no generation, unless a stop is requested."""

    def __init__(self, job: Job, stage: str) -> None:
        self._job = job
        self._stage = f"{stage}, tokens of a batch"
        self._reported = time.monotonic()

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor, **_: object) -> torch.BoolTensor:
        """Whether each sequence is complete, of shape (sequences,): none is. Raises Stopped."""
        if self._job.stop.is_set():
            raise Stopped
        if time.monotonic() - self._reported >= LONG_BATCH:
            self._reported = time.monotonic()
            self._job.report(self._stage, input_ids.shape[1])
        return cast("torch.BoolTensor", torch.zeros(len(input_ids), dtype=torch.bool, device=input_ids.device))


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

        Raises Stopped between two tokens if a stop is requested.
        """
        batches = list(self._batches(prompts, limits))
        answers: dict[int, Answer] = {}
        for batch in job.track(batches, stage, len(batches)):
            if job.stop.is_set():
                raise Stopped
            generated = self._batch([prompts[index] for index in batch], limits[batch[0]], TokenReports(job, stage))
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
    def _batch(self, prompts: list[Sequence[int]], limit: int, reports: TokenReports) -> Iterator[Answer]:
        device = self._model.device
        ids = padded(prompts, self._pad_id, left=True, device=device)
        mask = padded([[1] * len(prompt) for prompt in prompts], 0, left=True, device=device)
        generated = self._model.generate(  # type: ignore[operator]  # the stubs do not show this mixin method
            ids,
            attention_mask=mask,
            generation_config=self._config(limit),
            stopping_criteria=StoppingCriteriaList([reports]),
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
