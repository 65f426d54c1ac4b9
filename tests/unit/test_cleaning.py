from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.rows import Row, ToolCall, Turn
from optimizer_worker.operators.cleaning import clean, tidied, tidy
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
    [
        (" ", "a", "empty_prompt"),
        ("q", "\u200b", "empty_answer"),
        ("q", "\n\t\ufeff\u200d", "empty_answer"),
        ("same", " same\n", "answer_repeats_prompt"),
    ],
)
def test_rows_that_teach_nothing_are_quarantined(prompt: str, answer: str, rule: str) -> None:
    verdicts = clean([row(prompt, answer, "r", "s")])
    assert [(v.rule, v.action) for v in verdicts] == [(rule, "quarantined")]


@pytest.mark.parametrize(
    ("prompt", "answer"),
    [("q", "\U0001f44d"), ("q", "?"), ("a  b", "a b"), ("e\u0301", "\u00e9"), ("def f():\n  x", "def f():\n    x")],
)
def test_an_answer_that_changes_a_sign_teaches_something(prompt: str, answer: str) -> None:
    assert clean([row(prompt, answer, "r", "s")]) == []


def test_an_answer_of_calls_alone_is_not_empty() -> None:
    calls = (ToolCall(name="f", arguments="{}"),)
    turns = (Turn(role="user", content="q"), Turn(role="assistant", content="", tool_calls=calls))
    assert clean([Row(id="r", turns=turns)]) == []


@given(st.text(), st.text())
def test_no_row_is_changed_by_default(prompt: str, answer: str) -> None:
    before = row(prompt, answer, "r", "s")
    rows = [before.model_copy(deep=True)]
    clean(rows)
    assert rows == [before]


def test_a_tidied_row_is_reported_and_an_unchanged_row_is_not() -> None:
    rows, verdicts = tidied([row("a  b", "c", "r1"), row("a b", "c", "r2")])
    assert ([r.prompt for r in rows], [v.row for v in verdicts]) == (["a b", "a b"], ["r1"])


def test_tidying_changes_nothing_but_texts() -> None:
    turns = (
        Turn(role="user", content="q ", name="Ida"),
        Turn(role="assistant", content="no", learn=False, reasoning=" hm "),
        Turn(role="assistant", content="a", tool_calls=(ToolCall(name="f", arguments="{}"),)),
    )
    before = Row(id="r", turns=turns, slice="s", weight=2, tools=({"type": "function"},))
    ((after,), _) = tidied([before])
    texts = {"content": "q"}
    assert after == before.model_copy(update={"turns": (turns[0].model_copy(update=texts), *turns[1:])})


def test_plain_text_may_not_be_empty() -> None:
    assert clean([Row(id="r", text=" ")])[0].rule == "empty_prompt"
