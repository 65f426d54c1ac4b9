"""Score rows by generated answers, or by the likelihood of their reference answers."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

from contracts.options import EvaluationOptions, Metric
from contracts.rows import Row
from evaluator_worker.metrics import ANSWER_METRICS
from evaluator_worker.programs.generation import GreedyGenerator
from evaluator_worker.programs.perplexity import log_probabilities, scored_tokens
from evaluator_worker.row_results import RowResult, RowResults, Unscored
from infra.child.program import Job
from infra.errors import BadConfiguration, BadInput
from infra.models.chat_format import ChatFormat

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

T = TypeVar("T")
NO_CONTEXT_LIMIT = 1 << 30
NO_PROBABILITY = "the model gives a row no finite probability"
NO_REFERENCE = "a row has no reference answer"
REFUSED = "the model's chat template refuses a row"
TOO_LONG = "a row is longer than the model's context"
TOO_SHORT = "a row has no token that could be predicted"


class Scorer:
    """Scores splits with one model and one metric.

    Raises BadConfiguration if `max_new_tokens` leaves no room for a prompt in the model's context.
    """

    def __init__(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, metric: Metric, options: EvaluationOptions
    ) -> None:
        self._model = model
        self._tokenizer = tokenizer
        self._metric = metric
        self._options = options
        self._chat = ChatFormat(tokenizer)
        self._generator = GreedyGenerator(
            model, self._chat, max_new_tokens=options.max_new_tokens, batch_size=options.batch_size
        )
        self._context = getattr(model.config.get_text_config(), "max_position_embeddings", None) or NO_CONTEXT_LIMIT
        if metric is not Metric.PERPLEXITY:
            _require_room(options.max_new_tokens, self._context)

    def score(self, rows: Sequence[Row], job: Job, split: str) -> RowResults:
        """Return one result for each row, unscored if it has no reference; progress reports show `split`."""
        without_reference = [Unscored(row, NO_REFERENCE) for row in rows if not self._has_reference(row)]
        with_reference = [row for row in rows if self._has_reference(row)]
        by_metric = self._by_likelihood if self._metric is Metric.PERPLEXITY else self._by_answers
        outcomes = by_metric(with_reference, job, split)
        return RowResults(self._metric, outcomes.scored, (*without_reference, *outcomes.unscored))

    def _has_reference(self, row: Row) -> bool:
        if row.text is not None:
            return self._metric is Metric.PERPLEXITY and bool(row.text.strip())
        return bool(row.turns) and row.turns[-1].role == "assistant" and bool(row.response.strip())

    def _by_answers(self, rows: Sequence[Row], job: Job, split: str) -> RowResults:
        max_prompt_tokens = self._context - self._options.max_new_tokens
        prompts, refused = _tokenize(rows, self._chat.prompt_ids)
        fitting = [(row, prompt) for row, prompt in prompts if len(prompt) <= max_prompt_tokens]
        too_long = [Unscored(row, TOO_LONG) for row, prompt in prompts if len(prompt) > max_prompt_tokens]
        answers = self._generator.answers([prompt for _, prompt in fitting], job, f"answering {split}")
        texts = [str(self._tokenizer.decode(answer, skip_special_tokens=True)) for answer in answers]
        scored = tuple(
            _answer_result(row, text.strip(), self._metric) for (row, _), text in zip(fitting, texts, strict=True)
        )
        return RowResults(self._metric, scored, (*refused, *too_long))

    def _by_likelihood(self, rows: Sequence[Row], job: Job, split: str) -> RowResults:
        rendered, unscored = _tokenize(rows, lambda row: self._chat.render([row], self._context)[0])
        unscored += [Unscored(row, TOO_LONG) for row, tokens in rendered if tokens is None]
        short_enough = [(row, tokens) for row, tokens in rendered if tokens is not None]
        unscored += [Unscored(row, TOO_SHORT) for row, tokens in short_enough if not scored_tokens(tokens)]
        fitting = [(row, tokens) for row, tokens in short_enough if scored_tokens(tokens)]
        sums = log_probabilities(
            self._model, [tokens for _, tokens in fitting], self._options.batch_size, job, f"scoring {split}"
        )
        outcomes = [
            RowResult(row, total, float(scored_tokens(r))) for (row, r), total in zip(fitting, sums, strict=True)
        ]
        unscored += [Unscored(outcome.row, NO_PROBABILITY) for outcome in outcomes if not math.isfinite(outcome.total)]
        scored = tuple(outcome for outcome in outcomes if math.isfinite(outcome.total))
        return RowResults(self._metric, scored, tuple(unscored))


def _require_room(new_tokens: int, context: int) -> None:
    if new_tokens >= context:
        raise BadConfiguration(
            f"max_new_tokens is {new_tokens}, but prompt and answer share the model's {context} positions; "
            f"set max_new_tokens below {context}, so that prompts have room",
            field="max_new_tokens",
        )


def _tokenize(rows: Sequence[Row], tokens: Callable[[Row], T]) -> tuple[list[tuple[Row, T]], list[Unscored]]:
    """Return each row with its tokens, and the rows that the template refuses.

    The template's error text is dropped, because it may quote a sealed row.
    """
    accepted: list[tuple[Row, T]] = []
    refused: list[Unscored] = []
    for row in rows:
        try:
            accepted.append((row, tokens(row)))
        except BadInput:
            refused.append(Unscored(row, REFUSED))
    return accepted, refused


def _answer_result(row: Row, predicted: str, metric: Metric) -> RowResult:
    metrics = {name.value: compare(predicted, row.response) for name, compare in ANSWER_METRICS.items()}
    return RowResult(row, metrics[metric.value], predicted=predicted, metrics=metrics)
