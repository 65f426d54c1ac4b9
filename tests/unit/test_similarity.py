from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from optimizer_worker.similarity.normalization import normal, signs, words
from optimizer_worker.similarity.pairs import band_rows, similar_pairs


def shingles(text: str, size: int) -> set[tuple[str, ...]]:
    tokens = list(words(text)) if size == 3 else list(normal(text))
    if not tokens:
        return set()
    return {tuple(tokens[i : i + size]) for i in range(max(1, len(tokens) - size + 1))}


def likeness(one: str, other: str) -> float:
    best = 0.0
    for size in (3, 4):
        a, b = shingles(one, size), shingles(other, size)
        best = max(best, len(a & b) / len(a | b) if a and b else 0.0)
    return best


TEXTS = st.lists(
    st.lists(st.sampled_from(["card", "pin", "lost", "where", "my", "new"]), max_size=9).map(" ".join),
    max_size=12,
)


@settings(deadline=None, max_examples=40)
@given(TEXTS)
def test_pairs_are_those_of_a_comparison_of_all_with_all(texts: list[str]) -> None:
    pairs = similar_pairs([words(text) for text in texts], 0.8)
    found = set(zip(pairs.left.tolist(), pairs.right.tolist(), strict=True))
    assert found == {(i, j) for i, j in combinations(range(len(texts)), 2) if likeness(texts[i], texts[j]) >= 0.8}


@settings(deadline=None, max_examples=40)
@given(TEXTS)
def test_the_similarity_is_the_true_one(texts: list[str]) -> None:
    pairs = similar_pairs([words(text) for text in texts], 0.8)
    expected = [likeness(texts[i], texts[j]) for i, j in zip(pairs.left, pairs.right, strict=True)]
    np.testing.assert_allclose(pairs.similarity, expected)


def test_no_text_gives_no_pair() -> None:
    assert len(similar_pairs([], 0.8)) == 0


@pytest.mark.parametrize("threshold", [0.2, 0.5, 0.8, 0.95])
def test_bands_miss_fewer_than_one_pair_in_a_thousand(threshold: float) -> None:
    rows = band_rows(threshold)
    assert rows == 1 or (1 - threshold**rows) ** (128 // rows) <= 1e-3


def test_the_pairs_of_equal_texts_do_not_grow_with_the_square_of_their_number() -> None:
    assert len(similar_pairs([words("the very same question again")] * 2000, 0.8)) < 2000 * 17


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Top-up, please!", ["top", "up", "please"]),
        ("2+2 = 3.5", ["2", "+", "2", "=", "3.5"]),
        ("5 - 3", ["5", "-", "3"]),
        ("\u91cd\u7f6e pin", ["\u91cd", "\u7f6e", "pin"]),
        ("card_arrival", ["card", "arrival"]),
        ("???", ["???"]),
    ],
)
def test_words_are_those_that_carry_meaning(text: str, expected: list[str]) -> None:
    assert list(words(text)) == expected


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("C", "C#"),
        ("a && b", "a || b"),
        ("How was it? \U0001f600", "How was it? \U0001f621"),
        ("\u0926\u093f\u0928", "\u0926\u093e\u0928"),
        ("\u0e1b\u0e49\u0e32", "\u0e1b\u0e48\u0e32"),
        ("x\u00b2 + 1", "x2 + 1"),
        ("\u20ac50", "$50"),
        ("a != b", "a = b"),
        ("if (x)", "if (!x)"),
        ("a[1:]", "a[:1]"),
        ("the type of 5", "the type of '5'"),
        ("^v$", "^v?$"),
        ("1.5", "15"),
        (".5", "5"),
    ],
)
def test_symbols_marks_and_digits_distinguish(one: str, other: str) -> None:
    assert words(one) != words(other)


@pytest.mark.parametrize("text", ["Refund", "REFUND ", "refund\u200b", "re\u00adfund", "\uff52efund", '"refund".'])
def test_case_white_space_invisible_characters_and_punctuation_do_not(text: str) -> None:
    assert normal(text) == "refund"


def test_signs_are_the_numbers_and_symbols_in_order() -> None:
    assert signs(words("7 of (12.5) + 10:30 \u20ac")) == ("7", "(", "12.5", ")", "+", "10:30", "\u20ac")
