"""Score rows by generated answers, or by the likelihood of their reference answers."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import TYPE_CHECKING

from contracts.options import EvaluationOptions, Metric
from contracts.rows import Row
from evaluator_worker.metrics import ANSWER_METRICS
from evaluator_worker.programs.answer_limit import answer_limit, fits, room
from evaluator_worker.programs.generation import Answer, GreedyGenerator
from evaluator_worker.programs.perplexity import log_probabilities, scored_tokens
from evaluator_worker.programs.questions import Question, Questions, questions
from evaluator_worker.row_results import RowResult, RowResults, Unscored
from infra.child.program import Job
from infra.models.chat.reasoning import after_reasoning, is_reasoning_mark
from infra.models.chat_format import ChatFormat
from infra.models.embeddings import known_tokens

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

NO_CONTEXT_LIMIT = 1 << 30
NO_PROBABILITY = "the model gives it no finite probability"
NO_PROMPT = "it has no prompt"
TOO_LONG = (
    "with its prompt it is longer than the model's context of {} tokens (shorten it, or use a model with a longer one)"
)
TOO_SHORT = "it has no token that could be predicted"


class Scorer:
    """Scores splits with one model and one metric: `prepare` each, choose the `limit`, then `score` each."""

    def __init__(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, metric: Metric, options: EvaluationOptions
    ) -> None:
        self._model = model
        self._tokenizer = tokenizer
        self._metric = metric
        self._options = options
        self._chat = ChatFormat(tokenizer, known_tokens(model))
        self._context = getattr(model.config.get_text_config(), "max_position_embeddings", None) or NO_CONTEXT_LIMIT
        added = tokenizer.added_tokens_decoder
        self._reasoning_marks = {token: how.content for token, how in added.items() if is_reasoning_mark(how.content)}

    def prepare(self, rows: Sequence[Row], job: Job, split: str) -> Questions:
        """Return the rows as tokens, and those that have none."""
        max_length = self._context if self._by_likelihood else None
        return questions(rows, self._chat, self._metric, max_length, job, f"preparing {split}")

    def limit(self, *splits: Questions) -> int:
        """Return the limit of new tokens for all splits. Raises BadConfiguration if it leaves no room for a prompt."""
        if self._by_likelihood:
            return 0
        return answer_limit(self._options, self._context, [question for split in splits for question in split.rows])

    def score(self, prepared: Questions, limit: int, job: Job, split: str) -> RowResults:
        """Return one result for each row; progress reports show `split`."""
        by_metric = self._score_likelihood if self._by_likelihood else self._score_answers
        results = by_metric(prepared.rows, limit, job, split)
        return RowResults(self._metric, results.scored, (*prepared.unscored, *results.unscored))

    @property
    def _by_likelihood(self) -> bool:
        return self._metric is Metric.PERPLEXITY

    def _score_answers(self, rows: Sequence[Question], limit: int, job: Job, split: str) -> RowResults:
        unscored = [Unscored(q.row, NO_PROMPT) for q in rows if not q.rendered.prompt]
        prompted = [q for q in rows if q.rendered.prompt]
        chosen = self._options.max_new_tokens
        fitting = [q for q in prompted if fits(q, self._context, chosen)]
        too_long = TOO_LONG.format(self._context)
        unscored += [Unscored(q.row, too_long) for q in prompted if not fits(q, self._context, chosen)]
        generator = GreedyGenerator(self._model, self._chat, batch_size=self._options.batch_size)
        limits = [room(question, self._context, limit) for question in fitting]
        answers = generator.answers([question.prompt for question in fitting], limits, job, f"answering {split}")
        scored = tuple(self._answered(q, answer) for q, answer in zip(fitting, answers, strict=True))
        return RowResults(self._metric, scored, tuple(unscored))

    def _answered(self, question: Question, answer: Answer) -> RowResult:
        predicted = self._text(answer.tokens, question.rendered.begun)
        expected = _reference(question)
        metrics = {name.value: compare(predicted, expected) for name, compare in ANSWER_METRICS.items()}
        return RowResult(
            question.row,
            metrics[self._metric.value],
            predicted=predicted,
            metrics=metrics,
            cut=answer.cut,
            reference=question.reference,
        )

    def _text(self, tokens: list[int], begun: str) -> str:
        """Decode an answer without its reasoning, the marks of which may be special tokens that decoding drops."""
        text = "".join(self._pieces(tokens))
        answer = after_reasoning(text, begun)
        return (self._decoded(tokens) if answer == text else answer).strip()

    def _pieces(self, tokens: list[int]) -> Iterator[str]:
        """Yield the texts of the marks of reasoning, and what stands between them."""
        for mark, group in groupby(tokens, key=self._reasoning_marks.get):
            yield self._decoded(list(group)) if mark is None else mark

    def _decoded(self, tokens: list[int]) -> str:
        return str(self._tokenizer.decode(tokens, skip_special_tokens=True))

    def _score_likelihood(self, rows: Sequence[Question], _: int, job: Job, split: str) -> RowResults:
        unscored = [Unscored(q.row, TOO_SHORT) for q in rows if not scored_tokens(q.rendered)]
        fitting = [q for q in rows if scored_tokens(q.rendered)]
        sums = log_probabilities(
            self._model, [q.rendered for q in fitting], self._options.batch_size, job, f"scoring {split}"
        )
        results = [
            RowResult(q.row, total, float(scored_tokens(q.rendered)), shortened=q.rendered.shortened)
            for q, total in zip(fitting, sums, strict=True)
        ]
        unscored += [Unscored(result.row, NO_PROBABILITY) for result in results if not math.isfinite(result.total)]
        scored = tuple(result for result in results if math.isfinite(result.total))
        return RowResults(self._metric, scored, tuple(unscored))


def _reference(question: Question) -> str:
    """Return the reference without its reasoning; reasoning in a field of its own is no part of the response."""
    begun = "" if question.row.turns[-1].reasoning else question.rendered.begun
    return after_reasoning(question.row.response, begun)
