"""Rows in, outcomes out: by generated answers, or by the likelihood of the given ones."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

from contracts.options import EvaluationOptions, Metric
from contracts.rows import Row
from evaluator_worker.metrics import ANSWER_METRICS
from evaluator_worker.outcomes import Outcome, Outcomes, Unscored
from evaluator_worker.programs.generation import Greedy
from evaluator_worker.programs.perplexity import log_probabilities, scored_tokens
from infra.child.program import Job
from infra.errors import BadConfiguration, BadInput
from infra.models.chat_format import ChatFormat

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

T = TypeVar("T")
NO_CONTEXT_LIMIT = 1 << 30
NO_PROBABILITY = "the model gives it no finite probability"
NO_REFERENCE = "a row has no reference answer"
REFUSED = "the model's chat template refuses a row"
TOO_LONG = "a row is longer than the model's context"
TOO_SHORT = "a row has no token that could be predicted"


class Scorer:
    """One model and one metric, for any number of splits. Raises BadConfiguration where answers cannot fit."""

    def __init__(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, metric: Metric, options: EvaluationOptions
    ) -> None:
        self._model = model
        self._tokenizer = tokenizer
        self._metric = metric
        self._options = options
        self._chat = ChatFormat(tokenizer)
        self._greedy = Greedy(model, self._chat, max_new_tokens=options.max_new_tokens, batch_size=options.batch_size)
        self._context = getattr(model.config.get_text_config(), "max_position_embeddings", None) or NO_CONTEXT_LIMIT
        if metric is not Metric.PERPLEXITY:
            _require_room(options.max_new_tokens, self._context)

    def score(self, rows: Sequence[Row], job: Job, split: str) -> Outcomes:
        """One outcome a row; `split` is what progress is told. Rows without a reference stay unscored."""
        without = [Unscored(row, NO_REFERENCE) for row in rows if not self._has_reference(row)]
        given = [row for row in rows if self._has_reference(row)]
        by_metric = self._by_likelihood if self._metric is Metric.PERPLEXITY else self._by_answers
        outcomes = by_metric(given, job, split)
        return Outcomes(self._metric, outcomes.scored, (*without, *outcomes.unscored))

    def _has_reference(self, row: Row) -> bool:
        if row.text is not None:
            return self._metric is Metric.PERPLEXITY and bool(row.text.strip())
        return bool(row.turns) and row.turns[-1].role == "assistant" and bool(row.response.strip())

    def _by_answers(self, rows: Sequence[Row], job: Job, split: str) -> Outcomes:
        longest = self._context - self._options.max_new_tokens
        prompts, refused = _each(rows, self._chat.prompt_ids)
        fitting = [(row, prompt) for row, prompt in prompts if len(prompt) <= longest]
        too_long = [Unscored(row, TOO_LONG) for row, prompt in prompts if len(prompt) > longest]
        answers = self._greedy.answers([prompt for _, prompt in fitting], job, f"answering {split}")
        texts = [str(self._tokenizer.decode(answer, skip_special_tokens=True)) for answer in answers]
        scored = tuple(
            _compared(row, text.strip(), self._metric) for (row, _), text in zip(fitting, texts, strict=True)
        )
        return Outcomes(self._metric, scored, (*refused, *too_long))

    def _by_likelihood(self, rows: Sequence[Row], job: Job, split: str) -> Outcomes:
        rendered, unscored = _each(rows, lambda row: self._chat.render([row], self._context)[0])
        unscored += [Unscored(row, TOO_LONG) for row, tokens in rendered if tokens is None]
        known = [(row, tokens) for row, tokens in rendered if tokens is not None]
        unscored += [Unscored(row, TOO_SHORT) for row, tokens in known if not scored_tokens(tokens)]
        fitting = [(row, tokens) for row, tokens in known if scored_tokens(tokens)]
        sums = log_probabilities(
            self._model, [tokens for _, tokens in fitting], self._options.batch_size, job, f"scoring {split}"
        )
        outcomes = [Outcome(row, total, float(scored_tokens(r))) for (row, r), total in zip(fitting, sums, strict=True)]
        unscored += [Unscored(outcome.row, NO_PROBABILITY) for outcome in outcomes if not math.isfinite(outcome.total)]
        scored = tuple(outcome for outcome in outcomes if math.isfinite(outcome.total))
        return Outcomes(self._metric, scored, tuple(unscored))


def _require_room(new_tokens: int, context: int) -> None:
    if new_tokens >= context:
        raise BadConfiguration(
            f"max_new_tokens is {new_tokens}, but prompt and answer share the model's {context} positions; "
            "set it lower, so that prompts have room",
            field="max_new_tokens",
        )


def _each(rows: Sequence[Row], tokens: Callable[[Row], T]) -> tuple[list[tuple[Row, T]], list[Unscored]]:
    """Each row's tokens, and the rows that the template refuses; why is not said, as it may quote a sealed row."""
    taken: list[tuple[Row, T]] = []
    refused: list[Unscored] = []
    for row in rows:
        try:
            taken.append((row, tokens(row)))
        except BadInput:
            refused.append(Unscored(row, REFUSED))
    return taken, refused


def _compared(row: Row, predicted: str, metric: Metric) -> Outcome:
    metrics = {name.value: compare(predicted, row.response) for name, compare in ANSWER_METRICS.items()}
    return Outcome(row, metrics[metric.value], predicted=predicted, metrics=metrics)
