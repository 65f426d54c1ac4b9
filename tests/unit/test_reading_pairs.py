from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.uploads import lines, one_row, read, said


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("instruction", "output"),
        ("instruction", "response"),
        ("prompt", "response"),
        ("prompt", "completion"),
        ("question", "answer"),
        ("query", "answer"),
        ("input", "output"),
        ("user", "assistant"),
        ("context", "response"),
    ],
)
def test_a_question_and_its_answer_are_read_by_many_names(tmp_path: Path, question: str, answer: str) -> None:
    row = one_row(tmp_path, {question: " q", answer: " a "})
    assert [(turn.role, turn.content) for turn in row.turns] == [("user", " q"), ("assistant", " a ")]


@pytest.mark.parametrize(
    ("record", "prompt"),
    [
        ({"instruction": "Add", "input": "1 2"}, "Add\n1 2"),
        ({"instruction": "Add", "input": ""}, "Add"),
        ({"instruction": "Add", "input": None}, "Add"),
        ({"instruction": "", "input": "1 2"}, "1 2"),
        ({"instruction": None, "input": "1 2"}, "1 2"),
        ({"instruction": "Add", "context": "1 2"}, "Add\n1 2"),
    ],
)
def test_an_input_or_context_follows_its_question(tmp_path: Path, record: dict[str, Any], prompt: str) -> None:
    assert one_row(tmp_path, {**record, "output": "3"}).prompt == prompt


@pytest.mark.parametrize("history", [[["a", "b"]], [said("user", "a"), said("assistant", "b")], '[["a", "b"]]'])
def test_system_and_history_come_before_the_question(tmp_path: Path, history: object) -> None:
    record = {"instruction": "c", "output": "d", "system": "S", "history": history}
    assert [turn.content for turn in one_row(tmp_path, record).turns] == ["S", "a", "b", "c", "d"]


def test_only_the_completion_of_a_conversation_is_learnt(tmp_path: Path) -> None:
    prompt = [said("user", "a"), said("assistant", "b"), said("user", "c")]
    turns = one_row(tmp_path, {"prompt": prompt, "completion": [said("assistant", "d")]}).turns
    assert [(turn.content, turn.learn) for turn in turns if turn.role == "assistant"] == [("b", False), ("d", True)]


def test_fields_of_the_messages_of_a_completion_are_reported(tmp_path: Path) -> None:
    record = {"prompt": "a", "completion": [said("assistant", "b", mood="calm")]}
    reading = read(tmp_path, a__jsonl=lines(record, record))
    assert "completion[].mood (2 rows)" in reading.notices[0].text


def test_one_of_prompt_and_completion_may_be_text(tmp_path: Path) -> None:
    turns = one_row(tmp_path, {"prompt": [said("system", "S"), said("user", "a")], "completion": "b"}).turns
    assert [turn.role for turn in turns] == ["system", "user", "assistant"]


def test_the_thoughts_of_an_answer_are_kept_apart(tmp_path: Path) -> None:
    assert one_row(tmp_path, {"question": "q", "answer": "4", "reasoning": "2+2"}).turns[1].reasoning == "2+2"


def test_the_tools_of_a_question_are_kept(tmp_path: Path) -> None:
    assert len(one_row(tmp_path, {"prompt": "q", "response": "a", "tools": [{"name": "f"}]}).tools) == 1


def test_a_system_prompt_comes_before_a_text_with_a_category(tmp_path: Path) -> None:
    row = one_row(tmp_path, {"text": "q", "category": "a", "system": "S"})
    assert [turn.content for turn in row.turns] == ["S", "q", "a"]


@pytest.mark.parametrize(
    ("record", "found"),
    [
        ({"output": 3}, "output: expected a string, got int; write it in double quotes"),
        ({"output": True}, "output: expected a string, got bool; write it in double quotes"),
        ({"output": None}, "output: expected a string, got nothing"),
        ({"output": "a", "input": ["x"]}, "input: expected a string, got list"),
        ({"output": "a", "history": "junk"}, "history: expected JSON, as json.dumps writes it, got other text"),
        ({"output": "a", "history": [["x"]]}, "history[0]: expected a [question, answer] pair of strings"),
        ({"output": "a", "history": 5}, "history: expected a list of [question, answer] pairs, got int"),
        ({"output": "a", "system": 5}, "system: expected a string or a list of text parts, got int"),
        (
            {"output": [said("user", "a")]},
            "output: expected the assistant's answer at the end, got a user turn",
        ),
        ({"output": []}, "output: expected a list of messages, got an empty list"),
    ],
)
def test_a_field_of_the_wrong_type_sets_the_row_aside(tmp_path: Path, record: dict[str, Any], found: str) -> None:
    good = {"instruction": "q", "output": "a"}
    (item,) = read(tmp_path, a__jsonl=lines(good, {"instruction": "q", **record})).unreadable
    assert item.reason == found
