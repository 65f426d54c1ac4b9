from __future__ import annotations

import random

from optimizer_worker.operators.labels import can_be_checked, restored_labels, wrong_labels
from optimizer_worker.programs.text_models import LinearClassifier
from tests.examples import Row, row

TOPICS = {
    "card_arrival": ("card", "delivery", "arrive", "post", "mail"),
    "exchange_rate": ("rate", "euro", "dollar", "convert", "currency"),
    "lost_phone": ("phone", "stolen", "device", "missing", "lost"),
}


CLASSIFIER = LinearClassifier()


def questions(each: int, seed: int, prefix: str) -> list[Row]:
    choose = random.Random(seed)
    return [
        row(f"please help {' '.join(choose.choices(words, k=4))} now", label, f"{prefix}{label}{n}")
        for label, words in TOPICS.items()
        for n in range(each)
    ]


def mislabelled() -> tuple[list[Row], set[str]]:
    rows = questions(20, 1, "train")
    wrong = {0: "lost_phone", 25: "card_arrival", 45: "exchange_rate"}
    for index, label in wrong.items():
        rows[index] = row(rows[index].prompt, label, rows[index].id)
    return rows, {rows[index].id for index in wrong}


def test_planted_wrong_labels_are_found_and_no_others() -> None:
    rows, wrong = mislabelled()
    assert {verdict.row for verdict in wrong_labels(rows, [], seed=1, classifier=CLASSIFIER)} == wrong


def test_the_verdict_gives_the_label_that_the_classifier_predicts() -> None:
    rows, _ = mislabelled()
    verdict = next(v for v in wrong_labels(rows, [], seed=1, classifier=CLASSIFIER) if v.row == rows[0].id)
    assert "a classifier gives 'card_arrival'" in verdict.reason


def test_trusted_rows_train_the_classifier_and_are_not_judged() -> None:
    few = questions(2, 3, "train")
    wrong = row("rate euro dollar convert", "lost_phone", "wrong")
    assert [v.row for v in wrong_labels([*few, wrong], questions(30, 4, "dev"), seed=1, classifier=CLASSIFIER)] == [
        "wrong"
    ]


def test_a_quarantined_row_is_restored_if_its_label_is_predicted() -> None:
    right, wrong = row("card delivery arrive post", "card_arrival", "right"), row("rate euro", "lost_phone", "wrong")
    assert [v.row for v in restored_labels([right, wrong], questions(20, 1, "train"), [], CLASSIFIER)] == ["right"]


def test_a_row_with_another_spelling_of_its_label_is_not_wrong() -> None:
    rows = questions(20, 1, "train")
    rows[3] = row(rows[3].prompt, "Card_Arrival ", rows[3].id)
    assert wrong_labels(rows, [], seed=1, classifier=CLASSIFIER) == []


def test_a_classifier_that_cannot_predict_the_labels_judges_none() -> None:
    choose = random.Random(5)
    rows = [row(" ".join(choose.choices("abcdefgh", k=6)), choose.choice("xyz"), str(n)) for n in range(120)]
    assert wrong_labels(rows, [], seed=1, classifier=CLASSIFIER) == []


def test_words_that_end_in_numbers_decide_labels() -> None:
    choose = random.Random(5)
    vocabulary = ["lamp", "river", "stone", "cloud", "apple", "train", "glass", "paper"]
    rows = [
        row(f"{' '.join(choose.choices(vocabulary, k=5))} topic{topic}", f"t{topic}", f"{topic}-{n}")
        for topic in range(5)
        for n in range(25)
    ]
    assert wrong_labels(rows, [], seed=1, classifier=CLASSIFIER) == []


def test_twenty_rows_of_each_label_can_be_checked() -> None:
    assert can_be_checked(questions(20, 1, "train"))


def test_a_few_rows_cannot_be_checked() -> None:
    assert not can_be_checked(questions(3, 1, "train"))


def test_one_label_cannot_be_checked() -> None:
    assert not can_be_checked([row(f"question {n}", "yes", str(n)) for n in range(60)])


def test_one_label_for_nearly_all_is_judged_without_error() -> None:
    rows = [row(f"question {n}", "yes" if n else "no", str(n)) for n in range(45)]
    assert wrong_labels(rows, [], seed=1, classifier=CLASSIFIER) == []
