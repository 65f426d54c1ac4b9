from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from optimizer_worker.operators.duplicates import exact_duplicates, near_duplicates
from optimizer_worker.similarity.normalization import normal
from tests.examples import labelled, row

STORY = "Explain to a new colleague how the monthly report is put together, from the first export to the last check"
ANSWER = "First export the numbers from the ledger, then check them against the bank, then write two pages about them"


def dropped(*pairs: tuple[str, str], near: bool = True) -> list[tuple[str, str | None]]:
    rows = labelled(*pairs)
    verdicts = near_duplicates(rows, 0.8) if near else exact_duplicates(rows)
    return [(verdict.row, verdict.parent) for verdict in verdicts]


def test_an_exact_duplicate_names_the_row_that_stays() -> None:
    assert dropped(("Where is my card?", "a"), ("where is my CARD", "A"), near=False) == [("r1", "r0")]


def test_the_same_prompt_with_another_answer_is_no_exact_duplicate() -> None:
    assert dropped(("Where is my card?", "a"), ("Where is my card?", "b"), near=False) == []


def test_a_near_duplicate_of_a_long_row_is_dropped() -> None:
    assert dropped((STORY, ANSWER), (STORY + " please", ANSWER + ".")) == [("r1", "r0")]


def test_a_near_prompt_with_another_answer_stays() -> None:
    assert dropped((STORY, ANSWER), (STORY + " please", "Ask Maria, who has put it together for years")) == []


def test_a_typo_in_a_short_prompt_is_a_near_duplicate() -> None:
    question = "Why has my transfer not arrived yet?"
    assert dropped((question, "late"), (question.replace("transfer", "transfr"), "late")) == [("r1", "r0")]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("Is 120 greater than 100 in this case?", "yes"), ("Is 121 greater than 100 in this case?", "yes")),
        (
            (STORY, "Spend 14 days on it, all in all, and no more"),
            (STORY + "!", "Spend 15 days on it, all in all, and no more"),
        ),
        ((STORY, "lost or stolen card"), (STORY + "!!", "lost or stolen phone")),
    ],
)
def test_another_number_or_another_label_makes_another_row(one: tuple[str, str], other: tuple[str, str]) -> None:
    assert dropped(one, other) == []


def test_a_chain_of_likenesses_drops_only_what_is_like_a_kept_row() -> None:
    chain = ["abcdefghij" * 2 + tail for tail in ("klmnop", "klmnopqrst", "klmnopqrstuvwxyz")]
    assert dropped(*((text, "x") for text in chain)) == [("r1", "r0")]


def test_chinese_without_spaces_is_compared() -> None:
    text = (
        "\u5982\u4f55\u91cd\u7f6e\u6211\u7684\u94f6\u884c\u5361\u5bc6\u7801\u6211\u5fd8\u8bb0\u4e86\u539f\u6765\u7684"
    )
    assert dropped((text, "x"), (text + "\u5462", "x")) == [("r1", "r0")]


@pytest.mark.parametrize("text", ["", "?", "\U0001f600", "a", "1"])
def test_the_shortest_texts_do_no_harm(text: str) -> None:
    assert dropped((text, "x"), ("another thing altogether", "x")) == []


def test_the_words_of_a_template_are_no_likeness() -> None:
    template = "Classify the sentiment of the following review of a restaurant as either good or bad, in one word: "
    rows = [row(f"{template}{chr(97 + n % 26) * 4}{n // 26} dish{n}", "good", str(n)) for n in range(60)]
    assert near_duplicates(rows, 0.8) == []


def test_a_threshold_of_1_turns_the_rule_off() -> None:
    rows = labelled((STORY, ANSWER), (STORY + " please", ANSWER), (STORY + " please?", ANSWER))
    assert near_duplicates(rows, 1.0) == []


@given(st.lists(st.tuples(st.text("ab ?", max_size=6), st.text("xy", max_size=2)), max_size=12))
def test_exact_deduplication_keeps_one_of_each_prompt_and_answer(pairs: list[tuple[str, str]]) -> None:
    rows = labelled(*pairs)
    dropped_ids = {verdict.row for verdict in exact_duplicates(rows)}
    kept = [(normal(r.prompt), normal(r.response)) for r in rows if r.id not in dropped_ids]
    assert sorted(kept) == sorted({(normal(r.prompt), normal(r.response)) for r in rows})
