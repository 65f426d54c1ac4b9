from __future__ import annotations

import numpy as np
import pytest

from contracts.options import EvaluationOptions
from contracts.rows import Row
from evaluator_worker.programs.answer_limit import answer_limit, fits, room
from evaluator_worker.programs.questions import Question
from infra.models.chat_format import Rendered

CONTEXT = 1000


def _question(prompt: int, reference: int) -> Question:
    length = prompt + reference
    return Question(Row(id="r"), Rendered(np.zeros(length, np.int32), np.ones(length, np.bool_), prompt))


@pytest.mark.parametrize(
    ("longest", "limit"), [(0, 16), (5, 16), (100, 125), (101, 127), (790, 988), (900, 999), (2000, 16)]
)
def test_the_limit_is_a_quarter_more_than_the_longest_reference_that_fits(longest: int, limit: int) -> None:
    questions = [_question(10, 3), _question(10, longest)]
    assert answer_limit(EvaluationOptions(), CONTEXT, questions) == limit


def test_a_chosen_limit_is_kept() -> None:
    assert answer_limit(EvaluationOptions(max_new_tokens=7), CONTEXT, [_question(10, 300)]) == 7


@pytest.mark.parametrize(
    ("prompt", "reference", "chosen", "expected"),
    [
        (900, 100, 200, True),
        (901, 100, 200, False),
        (901, 200, 50, True),
        (900, 100, None, True),
        (10, 991, None, False),
    ],
)
def test_a_row_fits_if_its_prompt_leaves_room_for_what_is_scored_of_the_reference(
    prompt: int, reference: int, chosen: int | None, expected: bool
) -> None:
    assert fits(_question(prompt, reference), CONTEXT, chosen) is expected


@pytest.mark.parametrize("prompt", range(1, 1000, 37))
def test_the_room_of_a_row_holds_its_reference_and_lies_within_the_context(prompt: int) -> None:
    question = _question(prompt, 1 + (CONTEXT - prompt) // 3)
    assert question.reference <= room(question, CONTEXT, 600) <= min(600, CONTEXT - prompt)


def test_rows_have_few_different_rooms_so_that_batches_are_large() -> None:
    assert len({room(_question(prompt, 1), CONTEXT, 999) for prompt in range(1, 999)}) <= 70
