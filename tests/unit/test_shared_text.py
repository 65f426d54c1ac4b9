"""Text that many rows share does not make them similar, and copies of one row are still copies."""

from __future__ import annotations

import csv
import random
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.rows import Row, Turn
from optimizer_worker.operators.conflicts import label_conflicts
from optimizer_worker.operators.decontamination import contaminated
from optimizer_worker.operators.duplicates import exact_duplicates, near_duplicates
from optimizer_worker.operators.splitting import clusters, split_off
from optimizer_worker.similarity.normalization import Words, words
from optimizer_worker.similarity.shared_text import distinguishing
from tests.examples import row

BANKING = Path(__file__).parents[2] / "examples" / "banking77"
VOCABULARY = [
    "always",
    "answer",
    "the",
    "customer",
    "politely",
    "and",
    "briefly",
    "as",
    "the",
    "assistant",
    "of",
    "a",
    "small",
    "bank",
    "who",
    "knows",
    "cards",
    "payments",
    "transfers",
    "limits",
    "fees",
    "exchange",
    "rates",
    "accounts",
    "security",
    "rules",
    "and",
    "never",
    "gives",
    "away",
    "private",
    "data",
    "nor",
    "makes",
    "promises",
]
FILLERS = ("please", "now", "really", "today", "kindly", "just")


def system_prompt(length: int, number: int = 0) -> str:
    choose = random.Random(number)
    return " ".join([word for _ in range(length // 30 + 1) for word in choose.sample(VOCABULARY, 30)][:length])


def questions(file: str, count: int) -> list[tuple[str, str]]:
    with (BANKING / file).open(encoding="utf-8") as lines:
        rows = [(record["text"], record["category"]) for record in csv.DictReader(lines)]
    return random.Random(1).sample(rows, count)


def with_prompt(rows: Sequence[Row], length: int, kinds: int = 1) -> list[Row]:
    """The rows with a system prompt of `length` words; with `kinds` 5, each fifth of the rows has another one."""
    prompts = [system_prompt(length, number) for number in range(kinds)]
    choose = random.Random(9)
    return [
        each.model_copy(update={"turns": (Turn(role="system", content=choose.choice(prompts)), *each.turns)})
        for each in rows
    ]


def edited(text: str, choose: random.Random) -> str:
    parts = text.split()
    place = choose.randrange(len(parts))
    match choose.randrange(4):
        case 0:
            return text.upper().replace("?", "")
        case 1:
            return " ".join([*parts[:place], choose.choice(FILLERS), *parts[place:]])
        case 2:
            return " ".join([*parts[:place], parts[place] + parts[place][-1], *parts[place + 1 :]])
        case _:
            return f"{text} {choose.choice(FILLERS)}"


def removed_as_copies(rows: Sequence[Row]) -> set[str]:
    exact = {decision.row for decision in exact_duplicates(rows)}
    return exact | {d.row for d in near_duplicates([each for each in rows if each.id not in exact], 0.8)}


@pytest.fixture(scope="module")
def banking() -> list[Row]:
    return [row(text, label, f"b{n}") for n, (text, label) in enumerate(questions("train.csv", 5000))]


@pytest.fixture(scope="module")
def copies(banking: list[Row]) -> list[Row]:
    """Edited copies of long questions: 30 clusters of 2, 4 of 20, one of 500."""
    choose = random.Random(4)
    originals = choose.sample([each for each in banking if len(each.prompt.split()) >= 9], 35)
    sizes = [2] * 30 + [20] * 4 + [500]
    return [
        row(edited(each.prompt, choose), each.response, f"copy-{size}-{each.id}-{n}")
        for each, size in zip(originals, sizes, strict=True)
        for n in range(size)
    ]


@pytest.mark.parametrize("length", [15, 30, 200])
def test_a_system_prompt_in_all_rows_changes_fewer_than_one_verdict_in_a_hundred(
    banking: list[Row], length: int
) -> None:
    difference = removed_as_copies(banking) ^ removed_as_copies(with_prompt(banking, length))
    assert len(difference) < 0.01 * len(banking)


@pytest.mark.parametrize("length", [15, 200])
def test_a_system_prompt_in_each_fifth_of_the_rows_changes_fewer_than_one_verdict_in_a_hundred(
    banking: list[Row], length: int
) -> None:
    # A copy is an exact duplicate without prompts, and a near-duplicate with different prompts.
    difference = removed_as_copies(banking) ^ removed_as_copies(with_prompt(banking, length, kinds=5))
    assert len(difference) < 0.01 * len(banking)


@pytest.mark.parametrize(("length", "kinds"), [(30, 1), (30, 5)])
@pytest.mark.parametrize("size", [2, 20, 500])
def test_planted_clusters_of_copies_are_found_as_without_a_prompt(
    banking: list[Row], copies: list[Row], size: int, length: int, kinds: int
) -> None:
    rows = [*banking, *copies]
    plain, prompted = removed_as_copies(rows), removed_as_copies(with_prompt(rows, length, kinds))
    planted = {each.id for each in copies if each.id.startswith(f"copy-{size}-")}
    assert len(planted & prompted) >= 0.99 * len(planted & plain) > 0.4 * len(planted)


def test_leaks_are_found_behind_other_prompts(banking: list[Row]) -> None:
    choose = random.Random(6)
    test = [row(text, label, f"t{n}") for n, (text, label) in enumerate(questions("test.csv", 300))]
    leaks = [row(edited(each.prompt, choose), "x", f"leak{n}") for n, each in enumerate(test[:100])]
    plain = {d.row for d in contaminated([*banking, *leaks], {"test": test}, 0.8)}
    prompted = with_prompt([*banking, *leaks, *test], 30, kinds=5)
    found = contaminated(prompted[: len(banking) + 100], {"test": prompted[len(banking) + 100 :]}, 0.8)
    assert {d.row for d in found} >= {each.id for each in leaks} & plain
    assert len(found) <= 1.02 * len(plain)


def test_conflicts_are_found_behind_other_prompts(banking: list[Row]) -> None:
    wrong = [row(each.prompt, f"not {each.response}", f"wrong{n}") for n, each in enumerate(banking[:100])]
    groups = label_conflicts(with_prompt([*banking, *wrong], 30, kinds=5))
    assert {each.id for group in groups for each in group} >= {each.id for each in wrong}


def test_decontamination_takes_at_most_one_row_in_a_hundred_after_an_own_split(banking: list[Row]) -> None:
    splits = split_off(banking, {"dev": 0.1, "test": 0.1}, 0.8, 1)
    held_out = {each.id for part in splits.values() for each in part}
    training = [each for each in banking if each.id not in held_out]
    assert len(contaminated(training, splits, 0.8)) <= 0.01 * len(training)


@pytest.mark.parametrize("questions_each", [5, 20])
def test_questions_on_one_passage_are_different_rows(banking: list[Row], questions_each: int) -> None:
    vocabulary = sorted({word for each in banking[:500] for word in words(each.prompt)})
    passages = [" ".join(random.Random(n).choices(vocabulary, k=150)) for n in range(100 // questions_each)]
    rows = [row(f"{passages[n // questions_each]}\n\n{banking[n].prompt}", "yes", str(n)) for n in range(100)]
    assert len(clusters(rows, 0.8)) >= 85 and len(near_duplicates(rows, 0.8)) <= 10


@pytest.mark.parametrize(
    "template",
    [
        "Translate the word {} into French",
        "Is {} a mammal?",
        "Please answer with yes or no. Is the animal that is called {} a mammal or is it not one?",
        "{} : is this word a noun?",
    ],
)
def test_templated_questions_that_differ_in_one_word_are_different_rows(template: str) -> None:
    animals = [
        "cat",
        "dog",
        "hen",
        "cow",
        "owl",
        "bat",
        "emu",
        "yak",
        "eel",
        "ant",
        "bee",
        "fox",
        "hare",
        "lynx",
        "mole",
        "newt",
        "swan",
        "toad",
        "vole",
        "wolf",
    ]
    rows = [row(template.format(animal), "yes", animal) for animal in animals]
    assert len(clusters(rows, 0.8)) == len(rows)
    assert contaminated(rows[:10], {"test": rows[10:]}, 0.8) == []


def test_tasks_with_the_same_inputs_are_told_apart_by_their_instructions(banking: list[Row]) -> None:
    instructions = (
        "Does the customer sound angry in this message to us? Answer yes or no.",
        "Is this message about a card that was lost?",
    )
    rows = [
        row(f"{instruction}\n{each.prompt}", "yes" if n % (task + 2) else "no", f"{task}-{each.id}")
        for task, instruction in enumerate(instructions)
        for n, each in enumerate(banking[:60])
    ]
    assert label_conflicts(rows) == [] and near_duplicates(rows, 0.8) == []


@pytest.mark.parametrize("count", [1, 2, 30, 400])
def test_copies_of_one_row_share_no_text_in_this_sense(count: int) -> None:
    text = words("why has the transfer to my friend in france not arrived after more than five working days")
    assert distinguishing([text] * count) == [text] * count


def test_texts_that_consist_of_shared_text_keep_their_rarest_part() -> None:
    prompt, question = words(system_prompt(30)), words("how do i top up my card")
    texts = [(*prompt, *words(f"{n} {chr(97 + n % 26)} thing {n}")) for n in range(50)]
    assert distinguishing([*texts, (*prompt, *question)])[-1] == question


WORD = st.integers(0, 10**6).map(lambda number: f"w{chr(97 + number % 26)}{number}".translate(LETTERS))
LETTERS = str.maketrans("0123456789", "abcdefghij")
TEXTS = st.lists(st.lists(WORD, min_size=3, max_size=12, unique=True).map(tuple), min_size=20, max_size=40, unique=True)


def shares_a_run(texts: Sequence[Words]) -> bool:
    runs = [text[start : start + 5] for text in texts for start in range(len(text) - 4)]
    return len(set(runs)) < len(runs)


@settings(deadline=None, max_examples=60)
@given(TEXTS, st.integers(15, 60))
def test_a_constant_prefix_changes_nothing_on_texts_that_share_no_run(texts: list[Words], length: int) -> None:
    prefix = words(system_prompt(length))
    if len({text[0] for text in texts}) < 10 or shares_a_run(texts):
        return
    assert distinguishing([(*prefix, *text) for text in texts]) == texts


def test_inputs_that_two_tasks_have_in_part_in_common_do_not_conflict(banking: list[Row]) -> None:
    instructions = (
        "Does the customer sound angry in this message to us? Answer yes or no.",
        "Is this message spam? Say it.",
    )
    rows = [
        row(f"{instruction}\n{each.prompt}", "yes" if n % (task + 2) else "no", f"{task}-{each.id}")
        for task, instruction in enumerate(instructions)
        for n, each in enumerate(banking[task * 160 : task * 160 + 200])
    ]
    assert label_conflicts(rows) == [] and near_duplicates(rows, 0.8) == []


def test_questions_about_one_story_that_end_differently_do_not_conflict() -> None:
    names = ("alice", "bob", "claire", "dave")
    colours = ["red", "blue", "green", "pink", "white", "black", "brown", "grey"]
    choose = random.Random(2)
    rows = []
    for number in range(80):
        story = " and ".join(
            f"{name} swaps a {choose.choice(colours)} ball with {choose.choice(names)}" for name in names
        )
        for name in choose.sample(names, 2):
            question = f"Several people play a game at a party. {story}. At the end of the long game {name} has the"
            rows.append(row(question, choose.choice(colours), f"{number}-{name}"))
    assert label_conflicts(rows) == []
