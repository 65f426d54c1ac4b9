"""Tokens of the rows of a split: the prompt of each answer, and its reference."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from contracts.options import Metric
from contracts.rows import Row
from evaluator_worker.row_results import Unscored
from infra.child.program import Job
from infra.models.chat_format import ChatFormat, Refusal, Rendered

CALLS_TOOL = "its answer calls a tool, which only perplexity can score"
NO_REFERENCE = "it has no reference answer"
NOT_LEARNT = "its answer is marked as not to be learnt"
ROWS_PER_RENDER = 1024


@dataclass(frozen=True, slots=True)
class Question:
    """A row with a reference, as tokens."""

    row: Row
    rendered: Rendered

    @property
    def prompt(self) -> list[int]:
        """The tokens from which the answer is generated."""
        return [int(token) for token in self.rendered.ids[: self.rendered.prompt]]

    @property
    def reference(self) -> int:
        """Number of tokens of the reference, with the one that ends it."""
        return len(self.rendered.ids) - self.rendered.prompt


@dataclass(frozen=True, slots=True)
class Questions:
    """The rows of a split that can be scored, and the others."""

    rows: tuple[Question, ...]
    unscored: tuple[Unscored, ...]


def questions(
    rows: Sequence[Row], chat: ChatFormat, metric: Metric, max_length: int | None, job: Job, stage: str
) -> Questions:
    """Render rows to at most `max_length` tokens (None: no limit), for which a prompt may lose its start."""
    found: list[Question] = []
    unscored: list[Unscored] = []
    for row, rendered in _rendered(rows, chat, max_length, job, stage):
        problem = _problem(row, metric)
        if problem is not None:
            unscored.append(Unscored(row, problem))
        elif isinstance(rendered, Refusal):
            unscored.append(Unscored(row, rendered.reason, rendered.detail))
        else:
            found.append(Question(row, rendered))
    return Questions(tuple(found), tuple(unscored))


def _rendered(
    rows: Sequence[Row], chat: ChatFormat, max_length: int | None, job: Job, stage: str
) -> Iterator[tuple[Row, Rendered | Refusal]]:
    starts = range(0, len(rows), ROWS_PER_RENDER)
    for start in job.track(starts, stage, len(starts)):
        batch = rows[start : start + ROWS_PER_RENDER]
        yield from zip(batch, chat.render(batch, max_length), strict=True)


def _problem(row: Row, metric: Metric) -> str | None:
    """Return why the row has no reference for the metric, or None."""
    by_likelihood = metric is Metric.PERPLEXITY
    if row.text is not None:
        return None if by_likelihood and row.text.strip() else NO_REFERENCE
    answer = row.turns[-1] if row.turns else None
    if answer is None or answer.role != "assistant" or not (answer.content.strip() or answer.tool_calls):
        return NO_REFERENCE
    if not answer.learn:
        return NOT_LEARNT
    return CALLS_TOOL if answer.tool_calls and not by_likelihood else None
