from __future__ import annotations

import pytest

from infra.models.chat.reasoning import after_reasoning, begun_reasoning, brings_reasoning


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("<think>why</think>\n\nblue", "blue"),
        ("why </ think > blue", "blue"),
        ("[THINK]why[/THINK]blue", "blue"),
        ("<think>one</think>two</think>blue", "blue"),
        ("<think>never closed", "<think>never closed"),
        ("x < think", "x < think"),
    ],
)
def test_the_answer_is_what_follows_closed_reasoning(text: str, answer: str) -> None:
    assert after_reasoning(text) == answer


@pytest.mark.parametrize(("text", "brings"), [("\n<think>", True), ("a <think>", False), ("</think>", False)])
def test_an_answer_brings_reasoning_if_it_begins_with_it(text: str, brings: bool) -> None:
    assert brings_reasoning(text) is brings


@pytest.mark.parametrize(("prompt", "begun"), [("a<think>\n", "<think>\n"), ("<think></think>", ""), ("", "")])
def test_a_prompt_may_begin_the_reasoning(prompt: str, begun: str) -> None:
    assert begun_reasoning(prompt) == begun
