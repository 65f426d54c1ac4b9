"""Rows in, outcomes out: by generated answers, or by the likelihood of the given ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from contracts.options import EvaluationOptions, Metric
from contracts.rows import Row
from evaluator_worker.generation import Greedy
from evaluator_worker.metrics import ANSWER_METRICS
from evaluator_worker.outcomes import Outcome, Outcomes, Unscored
from evaluator_worker.perplexity import log_probabilities, scored_tokens
from infra.chat_format import ChatFormat, Rendered
from infra.program import Job

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

NO_CONTEXT_LIMIT = 1 << 30
NO_REFERENCE = "a row has no reference answer"
TOO_LONG = "a row is longer than the model's context"
TOO_SHORT = "a row has no token that could be predicted"


class Scorer:
    """One model and one metric, for any number of splits."""

    def __init__(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, metric: Metric, options: EvaluationOptions
    ) -> None:
        self._model = model
        self._tokenizer = tokenizer
        self._metric = metric
        self._options = options
        self._chat = ChatFormat(tokenizer)
        self._greedy = Greedy(model, self._chat, max_new_tokens=options.max_new_tokens, batch_size=options.batch_size)
        self._context = getattr(model.config, "max_position_embeddings", None) or NO_CONTEXT_LIMIT

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
        prompts = [(row, self._chat.prompt_ids(row)) for row in rows]
        fitting = [(row, prompt) for row, prompt in prompts if len(prompt) <= longest]
        unscored = tuple(Unscored(row, TOO_LONG) for row, prompt in prompts if len(prompt) > longest)
        answers = self._greedy.answers([prompt for _, prompt in fitting], job, f"answering {split}")
        texts = [str(self._tokenizer.decode(answer, skip_special_tokens=True)) for answer in answers]
        scored = tuple(
            _compared(row, text.strip(), self._metric) for (row, _), text in zip(fitting, texts, strict=True)
        )
        return Outcomes(self._metric, scored, unscored)

    def _by_likelihood(self, rows: Sequence[Row], job: Job, split: str) -> Outcomes:
        fitting: list[tuple[Row, Rendered]] = []
        unscored: list[Unscored] = []
        for row, rendered in zip(rows, self._chat.render(rows, self._context), strict=True):
            if rendered is None or not scored_tokens(rendered):
                unscored.append(Unscored(row, TOO_LONG if rendered is None else TOO_SHORT))
            else:
                fitting.append((row, rendered))
        sums = log_probabilities(
            self._model, [r for _, r in fitting], self._options.batch_size, job, f"scoring {split}"
        )
        scored = [Outcome(row, total, float(scored_tokens(r))) for (row, r), total in zip(fitting, sums, strict=True)]
        return Outcomes(self._metric, tuple(scored), tuple(unscored))


def _compared(row: Row, predicted: str, metric: Metric) -> Outcome:
    metrics = {name.value: compare(predicted, row.response) for name, compare in ANSWER_METRICS.items()}
    return Outcome(row, metrics[metric.value], predicted=predicted, metrics=metrics)
