from __future__ import annotations

import pytest

from contracts.options import Answers
from contracts.rows import Row
from optimizer_worker.operators.answers import kind_of_answers
from tests.examples import row


def rows(answers: list[str]) -> list[Row]:
    return [row(f"question {n}", answer, str(n)) for n, answer in enumerate(answers)]


@pytest.mark.parametrize(
    ("answers", "kind"),
    [
        (["yes", "no"] * 5, Answers.LABELS),
        (["yes", "Yes ", "NO", "no\u200b", "no"] * 2, Answers.LABELS),
        (["yes", "no", "perhaps"] * 4, Answers.TEXT),
        ([f"answer {chr(97 + n)}" for n in range(10)], Answers.TEXT),
        (["one two three four five six seven eight"] * 10, Answers.LABELS),
        (["one two three four five six seven eight nine"] * 10, Answers.TEXT),
        ([], Answers.TEXT),
    ],
)
def test_answers_are_labels_if_a_fifth_of_the_rows_has_different_ones_of_eight_words(
    answers: list[str], kind: Answers
) -> None:
    assert kind_of_answers(rows(answers), Answers.AUTO)[0] is kind


def test_plain_text_has_no_labels() -> None:
    assert kind_of_answers([Row(id=str(n), text="x") for n in range(10)], Answers.AUTO)[0] is Answers.TEXT


@pytest.mark.parametrize("kind", [Answers.LABELS, Answers.TEXT])
def test_the_option_overrides_the_rows(kind: Answers) -> None:
    assert kind_of_answers(rows(["yes", "no"] * 5), kind)[0] is kind


def test_the_notice_shows_the_guess_and_how_to_change_it() -> None:
    _, notice = kind_of_answers(rows(["yes", "no"] * 5), Answers.AUTO)
    assert notice.text.startswith(
        "The answers look like labels: 2 different answers in 10 rows, the longest of 1 words"
    )
    assert "set --answers text" in notice.text
