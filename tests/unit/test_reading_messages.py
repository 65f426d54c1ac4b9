from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from contracts.rows import Row
from optimizer_worker.reading.messages import UNANSWERED
from tests.uploads import chat, lines, notes, one_row, read, reason, said, turns

ASKED, ANSWERED = said("user", "Hi"), said("assistant", "Hello")
BOTH = [("user", "Hi"), ("assistant", "Hello")]


def contents(row: Row) -> list[tuple[str, str]]:
    return [(turn.role, turn.content) for turn in row.turns]


@pytest.mark.parametrize("field", ["messages", "conversations", "conversation", "dialogue", "dialog", "chat", "turns"])
@pytest.mark.parametrize(
    "messages",
    [
        [ASKED, ANSWERED],
        [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}],
        [{"role": "User", "value": "Hi"}, {"role": "Assistant ", "value": "Hello"}],
        [{"role": "user", "content": "Hi"}, {"from": "gpt", "value": "Hello"}],
        [{"human": "Hi", "assistant": "Hello"}],
        [{"speaker": "user", "text": "Hi"}, {"speaker": "bot", "text": "Hello"}],
    ],
)
def test_a_conversation_is_read_whatever_its_fields_are_called(tmp_path: Path, field: str, messages: object) -> None:
    assert contents(one_row(tmp_path, {field: messages})) == BOTH


def test_messages_may_be_json_text_as_in_a_csv_column(tmp_path: Path) -> None:
    assert contents(one_row(tmp_path, {"messages": json.dumps([ASKED, ANSWERED])})) == BOTH


def test_a_message_in_json_text_that_gives_a_field_twice_sets_the_row_aside(tmp_path: Path) -> None:
    text = json.dumps([ASKED, ANSWERED]).replace('"Hi"', '"Hi", "content": "Ho"')
    assert reason(tmp_path, {"messages": text}) == "messages: a field is given twice: content"


def test_a_line_that_is_a_bare_list_of_messages_is_a_conversation(tmp_path: Path) -> None:
    rows = read(tmp_path, a__jsonl=lines([ASKED, ANSWERED], [ASKED, ANSWERED])).rows
    assert [contents(row) for row in rows] == [BOTH, BOTH]


@pytest.mark.parametrize("field", ["system", "system_prompt"])
def test_a_system_prompt_beside_the_messages_is_their_first_turn(tmp_path: Path, field: str) -> None:
    assert turns(tmp_path, ASKED, ANSWERED, **{field: "Be brief."})[0].content == "Be brief."


def test_a_system_prompt_may_be_text_parts(tmp_path: Path) -> None:
    parts = [{"type": "text", "text": "Be"}, {"type": "text", "text": "brief."}]
    assert turns(tmp_path, ASKED, ANSWERED, system=parts)[0].content == "Be\nbrief."


def test_a_system_prompt_given_twice_is_used_once(tmp_path: Path) -> None:
    assert len(turns(tmp_path, said("system", "S"), ASKED, ANSWERED, system="S")) == 3


def test_two_different_system_prompts_set_the_row_aside(tmp_path: Path) -> None:
    record = {"system": "A", "messages": [said("system", "B"), ASKED, ANSWERED]}
    assert "system: expected one system prompt" in reason(tmp_path, record)


@pytest.mark.parametrize(
    ("flag", "learn"),
    [
        ({"weight": 0}, False),
        ({"weight": 1}, True),
        ({"weight": 0.0}, False),
        ({"train": False}, False),
        ({"train": True}, True),
        ({"training": False}, False),
        ({"loss": False}, False),
        ({"loss": None}, True),
        ({"loss_weight": 0.0}, False),
        ({"learn": False}, False),
        ({}, True),
    ],
)
def test_a_flag_of_an_answer_says_whether_it_is_learnt(tmp_path: Path, flag: dict[str, Any], learn: bool) -> None:
    messages = (ASKED, said("assistant", "bad", **flag), said("user", "Again"), ANSWERED)
    assert [turn.learn for turn in turns(tmp_path, *messages) if turn.role == "assistant"] == [learn, True]


@pytest.mark.parametrize("flag", [{"weight": 0.5}, {"weight": 2}, {"train": "no"}, {"loss": [1]}])
def test_a_flag_that_is_neither_yes_nor_no_sets_the_row_aside(tmp_path: Path, flag: dict[str, Any]) -> None:
    found = reason(tmp_path, chat("q", "a", **flag))
    assert found.startswith(f"messages[1].{next(iter(flag))}: expected true, false, 0 or 1, got")


def test_a_conversation_ends_with_its_last_learnt_answer(tmp_path: Path) -> None:
    kept = turns(tmp_path, ASKED, ANSWERED, said("user", "More"), said("assistant", "bad", weight=0))
    assert [turn.content for turn in kept] == ["Hi", "Hello"]


@pytest.mark.parametrize(
    ("end", "kept"),
    [
        ([said("user", "More")], ["Hi", "Hello"]),
        ([said("user", "More"), said("user", "More?")], ["Hi", "Hello"]),
        ([said("user", "More"), said("assistant", "bad", weight=0), said("user", "Why?")], ["Hi", "Hello"]),
        ([said("assistant", "", tool_calls=[{"name": "f"}]), said("tool", "7")], ["Hi", "Hello", ""]),
    ],
)
def test_turns_after_the_last_answer_are_left_out_with_a_notice(tmp_path: Path, end: list[Any], kept: object) -> None:
    reading = read(tmp_path, a__jsonl=lines({"messages": [ASKED, ANSWERED, *end]}, chat("q", "a")))
    assert [turn.content for turn in reading.rows[0].turns] == kept
    assert [(found.text, found.rows) for found in reading.notices] == [(f"train: {UNANSWERED}", 1)]


def test_an_answer_of_messages_that_ends_with_a_question_is_cut(tmp_path: Path) -> None:
    reading = read(tmp_path, a__jsonl=lines({"prompt": [ASKED], "completion": [ANSWERED, said("user", "More")]}))
    assert (contents(reading.rows[0]), notes(reading)) == (BOTH, [f"train: {UNANSWERED}"])


def test_a_row_without_an_answer_to_learn_is_set_aside(tmp_path: Path) -> None:
    assert reason(tmp_path, chat("q", "a", weight=0)) == "messages: no message of this row is to be learnt"


def test_an_answer_before_the_first_user_turn_is_no_answer(tmp_path: Path) -> None:
    messages = [said("assistant", "Welcome"), ASKED, said("assistant", "bad", weight=0)]
    assert reason(tmp_path, {"messages": messages}) == "messages: expected a user turn before the answer"


def test_a_greeting_of_the_assistant_is_kept(tmp_path: Path) -> None:
    assert turns(tmp_path, said("assistant", "Welcome"), ASKED, ANSWERED)[0].content == "Welcome"


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning", "thinking"])
def test_the_thoughts_of_an_answer_are_kept_apart(tmp_path: Path, field: str) -> None:
    answer = turns(tmp_path, ASKED, said("assistant", "4", **{field: "2+2"}))[1]
    assert (answer.reasoning, answer.content) == ("2+2", "4")


def test_two_different_thoughts_set_the_row_aside(tmp_path: Path) -> None:
    found = reason(tmp_path, chat("q", "a", reasoning="x", thinking="y"))
    assert "messages[1].thinking: expected one of reasoning_content, reasoning, thinking" in found


def test_the_name_of_a_speaker_is_kept(tmp_path: Path) -> None:
    assert turns(tmp_path, said("user", "Hi", name="Ida"), ANSWERED)[0].name == "Ida"


def test_the_fields_of_a_question_with_its_answer_are_heeded_or_reported(tmp_path: Path) -> None:
    items = [
        {"human": "q", "assistant": "bad", "loss": False, "mood": "calm", "system": "S"},
        {"human": "Hi", "assistant": "Hello"},
    ]
    reading = read(tmp_path, a__jsonl=lines({"conversation": items}, {"conversation": items}))
    assert [(turn.content, turn.learn) for turn in reading.rows[0].turns if turn.role == "assistant"] == [
        ("bad", False),
        ("Hello", True),
    ]
    assert reading.notices[0].text == "fields of train that are not used: conversation[].mood (2 rows)"


def test_text_parts_are_joined(tmp_path: Path) -> None:
    parts = [{"type": "text", "text": "a"}, "b", {"type": "input_text", "text": "c"}]
    assert turns(tmp_path, said("user", parts), ANSWERED)[0].content == "a\nb\nc"


@pytest.mark.parametrize(
    ("part", "found"),
    [
        ({"type": "image_url", "image_url": {"url": "x"}}, "has an image part; Treadle trains on text only"),
        ({"type": "input_audio", "input_audio": {}}, "has an audio part; Treadle trains on text only"),
        ({"type": "video"}, "has a video part; Treadle trains on text only"),
        (
            {"type": "tool_use"},
            "has a tool part; calls and results of tools are read from tool_calls and from "
            "messages of the role tool, not from parts",
        ),
        (
            {"type": "thinking"},
            "has a thinking part; thoughts are read from the message's field reasoning_content, not from parts",
        ),
        ({"type": "refusal"}, "has a refusal part; write a refusal that is to be learnt as a text part"),
        ({"type": "hologram"}, "has an unknown part; Treadle trains on text only"),
    ],
)
def test_a_part_that_is_no_text_sets_the_row_aside(tmp_path: Path, part: object, found: str) -> None:
    record = {"messages": [said("user", [{"type": "text", "text": "a"}, part]), ANSWERED]}
    assert reason(tmp_path, record) == f"messages[0].content: {found}"


@pytest.mark.parametrize("field", ["images", "image", "videos", "audios", "audio"])
def test_a_column_of_images_or_sound_sets_the_row_aside(tmp_path: Path, field: str) -> None:
    assert reason(tmp_path, {**chat("<image>", "a"), field: ["x"]}).startswith(f"{field}: has images, video or sound")


@pytest.mark.parametrize("value", [None, [], "", [None], [""], [[]], {}, "[null]"])
def test_an_empty_column_of_images_does_no_harm(tmp_path: Path, value: object) -> None:
    assert contents(one_row(tmp_path, {**chat("Hi", "Hello"), "images": value})) == BOTH


@pytest.mark.parametrize(
    ("message", "found"),
    [
        (said("narrator", "x"), "messages[0].role: expected one of system, developer, user"),
        (said(None, "x"), "messages[0].role: expected one of"),
        (said(["user"], "x"), "messages[0].role: expected one of"),
        (said("user", 5), "messages[0].content: expected a string or a list of text parts, got int"),
        (said("user", None), "messages[0].content: expected a string or a list of text parts, got nothing"),
        ({"text": "x"}, "messages[0]: expected an object with role and content"),
        ("x", "messages[0]: expected an object with role and content, got str"),
        (said("user", "x", name=3), "messages[0].name: expected a string, got int"),
        (said("assistant", None), "messages[0]: expected content or tool_calls, got neither"),
        (said("assistant", "x", refusal="I cannot."), "messages[0].refusal: expected nothing"),
        (said("assistant", "x", train_detail=[{"train": False}]), "messages[0].train_detail: expected nothing"),
    ],
)
def test_a_message_that_cannot_be_used_sets_the_row_aside(tmp_path: Path, message: object, found: str) -> None:
    assert reason(tmp_path, {"messages": [message, ASKED, ANSWERED]}).startswith(found)


@pytest.mark.parametrize(
    ("messages", "found"),
    [
        ([ASKED], "expected the assistant's answer at the end, got a user turn"),
        ([ANSWERED], "expected a user turn before the answer"),
        ([], "expected a list of messages, got an empty list"),
        (5, "expected a list of messages, got int"),
        ("[{'role': 'user'}]", "expected JSON, as json.dumps writes it, got Python, with single quotes"),
        ("[role: user]", "expected JSON, as json.dumps writes it, got other text"),
    ],
)
def test_a_list_that_is_no_conversation_sets_the_row_aside(tmp_path: Path, messages: object, found: str) -> None:
    assert reason(tmp_path, {"messages": messages}) == f"messages: {found}"
