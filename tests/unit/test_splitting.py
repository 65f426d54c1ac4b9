from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.rows import Row
from infra.errors import BadInput
from optimizer_worker.operators.splitting import clusters, split_off
from optimizer_worker.similarity.normalization import words
from optimizer_worker.similarity.pairs import similar_pairs
from tests.examples import row

FRACTIONS = {"dev": 0.1, "test": 0.1}
WORDS = ["card", "pin", "lost", "where", "is", "my", "new", "old", "money", "transfer"]
PROMPTS = st.lists(st.lists(st.sampled_from(WORDS), min_size=1, max_size=8).map(" ".join), min_size=8, max_size=40)


def corpus(each: int = 50) -> list[Row]:
    return [row(f"{name} number {chr(97 + n % 26)}{n} of the list", name) for name in "abcd" for n in range(each)]


def side_of(rows: list[Row], seed: int = 1) -> dict[str, str]:
    chosen = split_off(rows, FRACTIONS, 0.8, seed)
    held = {r.id: name for name, part in chosen.items() for r in part}
    return {r.id: held.get(r.id, "train") for r in rows}


@settings(deadline=None, max_examples=30)
@given(PROMPTS, st.integers(0, 5))
def test_no_near_duplicate_is_on_two_sides(prompts: list[str], seed: int) -> None:
    rows = [row(prompt, WORDS[n % 3], str(n)) for n, prompt in enumerate(prompts)]
    if len(clusters(rows, 0.8)) <= 2:
        return
    side = side_of(rows, seed)
    pairs = similar_pairs([words(prompt) for prompt in prompts], 0.8)
    for left, right in zip(pairs.left, pairs.right, strict=True):
        assert side[str(left)] == side[str(right)]


@settings(deadline=None, max_examples=30)
@given(PROMPTS)
def test_every_side_gets_a_row(prompts: list[str]) -> None:
    rows = [row(prompt, "x", str(n)) for n, prompt in enumerate(prompts)]
    if len(clusters(rows, 0.8)) > 2:
        assert set(side_of(rows).values()) == {"train", "dev", "test"}


def test_each_slice_gives_its_fraction() -> None:
    rows = corpus()
    side = side_of(rows)
    assert Counter((r.slice, side[r.id]) for r in rows if side[r.id] != "train") == {
        (name, part): 5 for name in "abcd" for part in FRACTIONS
    }


def test_slices_of_a_few_rows_give_their_fraction_together() -> None:
    rows = [row(f"{chr(97 + n)}{chr(98 + n)} {n} thing", f"slice{n // 3}") for n in range(24)]
    assert 1 <= Counter(side_of(rows).values())["dev"] <= 4


def test_the_seed_alone_decides() -> None:
    assert side_of(corpus(), 1) == side_of(corpus(), 1) != side_of(corpus(), 2)


def test_too_few_clusters_cannot_be_split() -> None:
    with pytest.raises(
        BadInput, match="2 rows in 1 near-duplicate clusters cannot be split into train and dev and test"
    ):
        split_off([row("the same", "a", "1"), row("the same", "b", "2")], FRACTIONS, 0.8, 1)


def test_the_rows_of_an_unrolled_conversation_stay_together() -> None:
    turns = [f"{word} {word[::-1]} and what is the price of {word} per kilo in the old town" for word in WORDS]
    rows = [
        row(" ".join(turns[start : start + length]), turns[start + length], f"{start}-{length}")
        for start in range(0, 8, 2)
        for length in (1, 2)
    ]
    side = side_of([*rows, *corpus(20)])
    for start in range(0, 8, 2):
        assert len({side[f"{start}-{length}"] for length in (1, 2)}) == 1
