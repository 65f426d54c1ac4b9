"""The limit of new tokens of a generated answer."""

from __future__ import annotations

import math
from collections.abc import Iterable

from contracts.options import EvaluationOptions
from evaluator_worker.programs.questions import Question
from infra.errors import BadConfiguration

MARGIN = 1.25
"""How much longer than the longest reference an answer may be."""
LEAST, MOST = 16, 8192
"""Bounds of a limit that follows the references, in tokens."""
GROUPS = 64
"""Maximum number of different limits of rows whose prompt leaves less room than the limit."""


def answer_limit(options: EvaluationOptions, context: int, questions: Iterable[Question]) -> int:
    """Return `max_new_tokens`, or a limit that follows the longest reference among `questions` that fits the context.

    Raises BadConfiguration if `max_new_tokens` leaves no room for a prompt.
    """
    chosen = options.max_new_tokens
    if chosen is None:
        longest = max((q.reference for q in questions if len(q.rendered.ids) <= context), default=0)
        return min(max(LEAST, math.ceil(MARGIN * longest)), MOST, context - 1)
    if chosen >= context:
        raise BadConfiguration(
            f"max_new_tokens is {chosen}, but prompt and answer share the model's {context} positions; "
            f"set max_new_tokens below {context}, so that prompts have room, or leave it out",
            field="max_new_tokens",
        )
    return chosen


def fits(question: Question, context: int, chosen: int | None) -> bool:
    """Whether the prompt leaves room for the reference, or for the part of it that a person's limit allows."""
    needed = question.reference if chosen is None else min(question.reference, chosen)
    return question.rendered.prompt + needed <= context


def room(question: Question, context: int, limit: int) -> int:
    """Return the limit for one row, which is lower if its prompt leaves less room; it takes few different values.

    It depends on the row alone, so that an answer does not depend on its batch.
    """
    left = context - question.rendered.prompt
    if left >= limit:
        return limit
    step = max(1, context // GROUPS)
    return max(left // step * step, min(question.reference, limit))
