from __future__ import annotations

from collections.abc import Callable

import pytest

from evaluator_worker.metrics import exact_match, normalize, rouge_l, token_f1, words


@pytest.mark.parametrize(
    ("predicted", "expected"),
    [
        ("Card_Arrival", "card_arrival"),
        ("  a  b\n", "a b"),
        ("\uff21\uff42\uff43", "abc"),
        ("straße", "STRASSE"),
        ("no\u200b", "no"),
    ],
)
def test_case_width_and_spaces_do_not_matter(predicted: str, expected: str) -> None:
    assert exact_match(predicted, expected) == 1.0


@pytest.mark.parametrize(
    ("predicted", "expected"),
    [
        ("card-lost", "card_lost"),
        ("Card lost.", "card_lost"),
        ("card  lost", "card-lost"),
        ("t-shirt", "t shirt"),
        ("5.", "5"),
        ("C#.", "C#"),
        ("问题。", "问题"),
    ],
)
def test_spellings_of_a_short_label_are_equal(predicted: str, expected: str) -> None:
    assert exact_match(predicted, expected) == exact_match(expected, predicted) == 1.0
    assert token_f1(predicted, expected) == rouge_l(predicted, expected) == 1.0


@pytest.mark.parametrize(
    ("predicted", "expected"),
    [
        ("", "card_arrival"),
        ("the card_arrival", "card_arrival"),
        ("cardarrival", "card_arrival"),
        ("card_arrival!", "card_arrival"),
        ("-5", "5"),
        ("C", "C#"),
        ("1.5", "15"),
        ("1-2", "1 2"),
        ("x-y", "x y"),
        ("my_var = 1", "my var = 1"),
        ("my_file.py", "my-file.py"),
        ("...", "."),
        ("a b c d e f g h i.", "a b c d e f g h i"),
        ("one two three four five six seven eight-nine", "one two three four five six seven eight nine"),
    ],
)
def test_other_marks_and_words_do_matter_to_exact_match(predicted: str, expected: str) -> None:
    assert exact_match(predicted, expected) == exact_match(expected, predicted) == 0.0


def test_normalizing_twice_changes_nothing() -> None:
    text = "  \u210c  Ⅷ straße "
    assert normalize(normalize(text)) == normalize(text)


def test_token_f1_is_the_harmonic_mean_of_precision_and_recall() -> None:
    # two of three words predicted are among the four expected: 2 * (2/3 * 2/4) / (2/3 + 2/4)
    assert token_f1("red green black", "red green blue white") == pytest.approx(4 / 7)


def test_token_f1_counts_a_repeated_word_as_often_as_it_is_expected() -> None:
    assert token_f1("go go go", "go") == pytest.approx(0.5)


def test_token_f1_leaves_out_articles_and_punctuation_as_squad_does() -> None:
    assert token_f1("The cat, sat!", "a cat sat") == 1.0


def test_an_answer_without_words_agrees_only_with_itself() -> None:
    assert (token_f1("?", "?"), token_f1("?", "!"), rouge_l("", "cat")) == (1.0, 0.0, 0.0)


def test_rouge_l_follows_the_longest_common_subsequence() -> None:
    # "police killed gunman" against "police kill gunman": 2 of 3 words in order (Lin 2004, section 3.1)
    assert rouge_l("police kill gunman", "police killed gunman") == pytest.approx(2 / 3)


def test_order_matters_to_rouge_l_and_not_to_token_f1() -> None:
    assert token_f1("b c d", "d c b") == 1.0
    assert rouge_l("b c d", "d c b") == pytest.approx(1 / 3)


@pytest.mark.parametrize("compare", [token_f1, rouge_l])
def test_chinese_is_compared_by_character(compare: Callable[[str, str], float]) -> None:
    assert compare("今天很好", "今天很冷") == pytest.approx(3 / 4)


@pytest.mark.parametrize("compare", [token_f1, rouge_l])
@pytest.mark.parametrize(
    ("predicted", "expected"),
    [
        ("दिन", "दान"),
        ("दिन", "दीन"),
        ("กิน", "กัน"),
        ("படி", "பாடு"),
        ("C", "C#"),
        ("C++", "C"),
        ("&&", "||"),
        ("<=", "<"),
        ("1.5", "15"),
        ("1,5", "15"),
        ("1/2", "12"),
        ("-5", "5"),
        ("-.5", ".5"),
        (".5", "5"),
        ("\u22125", "5"),
        ("!=", "="),
        ("👍", "👎"),
        ("🇩🇪", "🇩🇰"),
    ],
)
def test_words_that_differ_in_a_mark_or_a_symbol_differ_wholly(
    compare: Callable[[str, str], float], predicted: str, expected: str
) -> None:
    assert (compare(predicted, expected), exact_match(predicted, expected)) == (0.0, 0.0)


@pytest.mark.parametrize("compare", [token_f1, rouge_l])
@pytest.mark.parametrize(("predicted", "expected"), [("!x", "x"), ("?x", "x"), ("a != b", "a = b")])
def test_signs_that_end_no_sentence_are_words(
    compare: Callable[[str, str], float], predicted: str, expected: str
) -> None:
    assert compare(predicted, expected) < 1


@pytest.mark.parametrize("text", ["दिन का अर्थ", "คำว่า กิน", "படி என்றால்", "می‌خواهم", "C# && C++", "👨‍👩‍👧 ❤", "e\u0301té"])
@pytest.mark.parametrize("compare", [token_f1, rouge_l, exact_match])
def test_a_text_agrees_with_itself_in_every_script(compare: Callable[[str, str], float], text: str) -> None:
    assert compare(text, text) == 1.0


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("दिन का", ["दिन", "का"]),
        ("good 👍🏽", ["good", "👍🏽"]),
        ("50 %", ["50", "%"]),
        ("❤️", ["❤"]),
        ("C#, F#.", ["c#", "f#"]),
        ("It is 1.5, or -2.", ["it", "is", "1.5", "or", "-2"]),
        ("1,000,000: v1.5 (3d)", ["1000000", "v1", ".5", "3d"]),
        ("Covid-19, e.g. well-known/old... Really?! Yes!", ["covid19", "eg", "wellknownold", "really", "yes"]),
        ("if !x != y", ["if", "!", "x", "!=", "y"]),
    ],
)
def test_marks_stay_with_their_word_and_symbols_are_words(text: str, expected: list[str]) -> None:
    assert words(text) == expected


def test_emphasis_does_not_count() -> None:
    assert token_f1("**Paris** `is` it", "Paris is it") == 1.0
