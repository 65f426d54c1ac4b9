from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.rows import Row
from optimizer_worker.operators.cleaning import clean, tidy
from tests.examples import row


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("  where   is\tmy card? ", "where is my card?"),
        ("zero\u200bwidth\x00 and\u00a0hard", "zerowidth and hard"),
        ("e\u0301", "\u00e9"),
        ("def f():\r\n    return  1  \r\n", "def f():\n    return  1"),
        ("\U0001f468\u200d\U0001f469", "\U0001f468\u200d\U0001f469"),
        ("plain", "plain"),
    ],
)
def test_text_is_tidied_and_code_keeps_its_spacing(before: str, after: str) -> None:
    assert tidy(before) == after


@given(st.text())
def test_tidy_text_stays_as_it_is(text: str) -> None:
    assert tidy(tidy(text)) == tidy(text)


@pytest.mark.parametrize(
    ("prompt", "answer", "rule"),
    [(" ", "a", "empty_prompt"), ("q", "\u200b", "empty_answer"), ("same", " same", "answer_repeats_prompt")],
)
def test_rows_that_teach_nothing_are_quarantined(prompt: str, answer: str, rule: str) -> None:
    _, verdicts = clean([row(prompt, answer, "r", "s")])
    assert [(v.rule, v.action) for v in verdicts] == [(rule, "quarantined")]


def test_a_tidied_row_is_reported_and_an_unchanged_row_is_not() -> None:
    rows, verdicts = clean([row("a  b", "c", "r1"), row("a b", "c", "r2")])
    assert ([r.prompt for r in rows], [v.row for v in verdicts]) == (["a b", "a b"], ["r1"])


def test_plain_text_may_not_be_empty() -> None:
    assert clean([Row(id="r", text=" ")])[1][0].rule == "empty_prompt"
