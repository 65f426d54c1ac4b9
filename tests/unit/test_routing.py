"""The routing keys that a binding matches."""

from __future__ import annotations

import pytest

from contracts.topology import ExchangeKind
from infra.bus.routing import routes


@pytest.mark.parametrize(
    ("binding", "key", "expected"),
    [
        ("train", "train", True),
        ("train", "trainer", False),
        ("*", "train", True),
        ("*", "train.a", False),
        ("*", "", True),
        ("#", "", True),
        ("#", "a.b.c", True),
        ("a.#", "a", True),
        ("a.#", "a.b.c", True),
        ("a.#", "b.a", False),
        ("#.c", "a.b.c", True),
        ("#.c", "c", True),
        ("a.*.c", "a.b.c", True),
        ("a.*.c", "a.c", False),
        ("a.#.c", "a.c", True),
        ("#.#", "", True),
        ("*.#", "a", True),
    ],
)
def test_topics_match_word_by_word(binding: str, key: str, expected: bool) -> None:
    assert routes(ExchangeKind.TOPIC, binding, key) is expected


def test_a_direct_exchange_matches_only_the_exact_key() -> None:
    assert not routes(ExchangeKind.DIRECT, "*", "claim")


def test_a_fanout_ignores_the_key() -> None:
    assert routes(ExchangeKind.FANOUT, "anything", "else")
