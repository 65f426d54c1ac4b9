from __future__ import annotations

import pytest

from evaluator_worker.reasoning import without_reasoning


@pytest.mark.parametrize(
    ("predicted", "expected", "compared"),
    [
        ("<think>why</think>blue", "blue", "blue"),
        ("why </ think > blue", "blue", " blue"),
        ("[THINK]why[/THINK]blue", "blue", "blue"),
        ("<think>never closed", "blue", "<think>never closed"),
        ("<think>why</think>blue", "<think>so</think>blue", "<think>why</think>blue"),
        ("blue", "blue", "blue"),
    ],
)
def test_only_what_follows_closed_reasoning_is_compared(predicted: str, expected: str, compared: str) -> None:
    assert without_reasoning(predicted, expected) == compared
