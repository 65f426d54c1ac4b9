from __future__ import annotations

import pytest

from infra.models.chat.reasoning import after_reasoning, begun_reasoning, brings_reasoning, continuation


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("<think>why</think>\n\nblue", "blue"),
        ("\n< think > why </ think > blue", "blue"),
        ("<thinking>why</think></thinking>blue", "blue"),
        ("[THINK]why[/THINK]blue", "blue"),
        ("<think></think><think>why</think>blue", "blue"),
        ("<think>why</think>the mark </think> ends it", "the mark </think> ends it"),
    ],
)
def test_the_answer_is_what_follows_a_block_of_reasoning_that_opens_it(text: str, answer: str) -> None:
    assert after_reasoning(text) == answer


@pytest.mark.parametrize(
    "text",
    [
        "<think>never closed",
        "x < think",
        "why</think>blue",
        "it writes <think>why</think>blue",
        "<label>A</label><reason>y</reason>",
        "<reason>y</reason><label>A</label>",
        "<thought>y</thought>A",
        "<think>nothing follows</think>\n",
    ],
)
def test_other_text_is_the_answer(text: str) -> None:
    assert after_reasoning(text) == text


@pytest.mark.parametrize(
    ("begun", "text", "answer"),
    [
        ("<think>\n", "why\n</think>\n\nblue", "blue"),
        ("<think>\n", "<think>why</think>blue", "blue"),
        ("<reason>", "why</reason>blue", "blue"),
        ("<reason>", "why</think>blue", "why</think>blue"),
        ("<think>\n", "why</think>\n", "why</think>\n"),
    ],
)
def test_reasoning_that_the_prompt_begins_is_no_part_of_the_answer(begun: str, text: str, answer: str) -> None:
    assert after_reasoning(text, begun) == answer


@pytest.mark.parametrize(
    ("text", "brings"),
    [
        ("\n<think>", True),
        ("a <think>", False),
        ("<reason>why</reason>", False),
        ("why\n</think>\n\na", True),
        ("why</think>\na", True),
        ("the mark </think> ends reasoning", False),
        ("it is\n<think>\nwhy\n</think>\na", False),
    ],
)
def test_an_answer_brings_reasoning_if_it_begins_with_it(text: str, brings: bool) -> None:
    assert brings_reasoning(text) is brings


@pytest.mark.parametrize(("text", "brings"), [("<reason>why", True), ("<think>why", False), ("why\n</reason>", True)])
def test_an_answer_continues_only_the_mark_with_which_the_prompt_ends(text: str, brings: bool) -> None:
    assert brings_reasoning(text, "q <reason>\n") is brings


@pytest.mark.parametrize(
    ("begun", "answer", "rest"),
    [
        ("<think>\n", "<think>hm</think>x", "hm</think>x"),
        ("<think>\n", "\n<think>\nhm</think>x", "hm</think>x"),
        ("<think>\n", "<think>  hm</think>x", "hm</think>x"),
        ("<think>\n", "< THINK >\n\nhm</think>x", "\nhm</think>x"),
        ("<think>", "<think>\nhm</think>x", "\nhm</think>x"),
        ("<think>\n", "hm\n</think>\n\nx", "hm\n</think>\n\nx"),
        ("<think>\n", "<thinking>hm", "<thinking>hm"),
        ("", "<think>hm", "<think>hm"),
    ],
)
def test_an_answer_does_not_repeat_the_mark_with_which_the_prompt_ends(begun: str, answer: str, rest: str) -> None:
    assert continuation(answer, begun) == rest


@pytest.mark.parametrize(("prompt", "begun"), [("a<think>\n", "<think>\n"), ("<think></think>", ""), ("", "")])
def test_a_prompt_may_begin_the_reasoning(prompt: str, begun: str) -> None:
    assert begun_reasoning(prompt) == begun
