"""Workers are found by name."""

import pytest

from infra.errors import BadConfiguration
from infra.worker.discover import load, names


def test_the_rooms_name_their_workers() -> None:
    assert {"optimizer", "trainer", "evaluator"} <= set(names())


def test_an_unknown_worker_is_answered_with_the_known_ones() -> None:
    with pytest.raises(BadConfiguration, match="evaluator, optimizer, trainer"):
        load("painter")
