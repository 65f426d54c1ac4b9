from __future__ import annotations

import pytest

from optimizer_worker.operators.decontamination import contaminated
from tests.examples import Row, row

SHORT = "How do I locate my card in the app today?"
LONG = (
    "A farmer sells eggs on Monday, twice as many on Tuesday and half of the rest on a Friday that follows; "
    "how many eggs are left in the barn by the end of that week if he began with ninety of them?"
)


def flagged(prompt: str, secret: str, split: str = "test", answer: str = "a") -> str | None:
    verdicts = contaminated([row(prompt, answer, "mine")], {split: [row(secret, "b", "secret")]}, 0.8)
    return verdicts[0].reason if verdicts else None


@pytest.mark.parametrize("secret", [SHORT, LONG, "PIN?", "\u91cd\u7f6e\u5bc6\u7801"])
def test_the_same_prompt_is_found_whatever_case_and_marks(secret: str) -> None:
    assert flagged(secret.upper().replace(",", "").replace("?", ""), secret) == "same prompt of a row of test"


@pytest.mark.parametrize("place", range(9))
def test_one_changed_word_does_not_hide_a_short_prompt(place: int) -> None:
    words = SHORT.split()
    assert flagged(" ".join([*words[:place], "thing", *words[place + 1 :]]), SHORT) is not None


def test_a_long_prompt_inside_a_longer_row_is_found() -> None:
    assert flagged(f"Solve this for me and show your work. {LONG} Think it over.", LONG) is not None


def test_a_stretch_of_a_long_prompt_is_found_in_an_answer_too() -> None:
    stretch = " ".join(LONG.split()[10:30])
    assert flagged("Tell me a story", LONG, answer=f"Once upon a time, {stretch}") == "13-grams of a row of test"


@pytest.mark.parametrize(
    ("prompt", "secret"),
    [
        ("How do I get a physical card", "How do I get a virtual card"),
        ("I want to change my PIN.", "I want to change my name."),
        ("Why did my payment fail?", "Why did my transfer fail?"),
        ("What is 12 + 13?", "What is 12 - 13?"),
        ("Where is my card?", "Where can I use my card?"),
    ],
)
def test_questions_of_one_domain_that_share_their_words_are_left(prompt: str, secret: str) -> None:
    assert flagged(prompt, secret) is None


def test_a_dev_row_is_named_and_a_test_row_never() -> None:
    rows = [row(SHORT, "a", "one"), row(LONG, "a", "two")]
    verdicts = contaminated(rows, {"dev": [row(SHORT, "b", "d1")], "test": [row(LONG, "b", "t1")]}, 0.8)
    assert [(v.row, v.parent) for v in verdicts] == [("one", "d1"), ("two", None)]


def test_plain_text_is_compared_as_a_prompt() -> None:
    verdicts = contaminated([Row(id="a", text=SHORT)], {"dev": [Row(id="d", text=SHORT)]}, 0.8)
    assert [v.row for v in verdicts] == ["a"]


def test_nothing_protected_flags_nothing() -> None:
    assert contaminated([row(SHORT, "a")], {"dev": [], "test": []}, 0.8) == []
