from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from contracts.rows import ToolCall
from tests.uploads import one_row, reason, said, turns

ASKED = said("user", "How warm is the kitchen?")
FUNCTION = {"name": "temperature", "arguments": '{"room":  "kitchen"}'}
CALL = {"id": "c1", "type": "function", "function": FUNCTION}
CALLED = ToolCall(name="temperature", arguments='{"room":  "kitchen"}', id="c1")
TOOL = {"name": "temperature", "description": "Measures.", "parameters": {"type": "object", "properties": {}}}
IN_OPENAI_FORMAT = {"type": "function", "function": TOOL}


def test_text_beside_calls_keeps_both_at_the_end_of_a_conversation(tmp_path: Path) -> None:
    answer = turns(tmp_path, ASKED, said("assistant", "I will look.", tool_calls=[CALL]))[-1]
    assert (answer.content, answer.tool_calls) == ("I will look.", (CALLED,))


@pytest.mark.parametrize(
    "message", [said("assistant", None, tool_calls=[CALL]), {"role": "assistant", "tool_calls": [CALL]}]
)
def test_an_answer_of_calls_alone_has_empty_text(tmp_path: Path, message: object) -> None:
    answer = turns(tmp_path, ASKED, message)[-1]
    assert (answer.content, answer.tool_calls) == ("", (CALLED,))


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        (CALL, CALLED),
        ({**FUNCTION, "id": "c1"}, CALLED),
        ({"function": {"name": "f", "arguments": {"a": "é"}}}, ToolCall(name="f", arguments='{"a": "é"}')),
        ({"function": {"name": "f", "arguments": ""}}, ToolCall(name="f", arguments="{}")),
        ({"function": {"name": "f"}}, ToolCall(name="f", arguments="{}")),
    ],
)
def test_a_call_is_read_in_each_of_its_shapes(tmp_path: Path, call: object, expected: ToolCall) -> None:
    assert turns(tmp_path, ASKED, said("assistant", "", tool_calls=[call]))[-1].tool_calls == (expected,)


def test_calls_may_be_json_text(tmp_path: Path) -> None:
    answer = turns(tmp_path, ASKED, said("assistant", "", tool_calls=json.dumps([CALL])))[-1]
    assert answer.tool_calls == (CALLED,)


def test_the_older_function_call_is_a_call(tmp_path: Path) -> None:
    answer = turns(tmp_path, ASKED, said("assistant", None, function_call=FUNCTION))[-1]
    assert answer.tool_calls == (ToolCall(name=CALLED.name, arguments=CALLED.arguments),)


@pytest.mark.parametrize("role", ["function_call", "tool_call"])
def test_a_message_whose_role_is_a_call_has_the_call_as_its_content(tmp_path: Path, role: str) -> None:
    call = json.dumps({"name": "f", "arguments": {"a": 1}})
    record = {
        "conversations": [
            {"from": "human", "value": "q"},
            {"from": role, "value": call},
            {"from": "observation", "value": "7"},
            {"from": "gpt", "value": "a"},
        ],
        "tools": json.dumps([TOOL]),
    }
    row = one_row(tmp_path, record)
    assert [turn.role for turn in row.turns] == ["user", "assistant", "tool", "assistant"]
    assert row.turns[1].tool_calls == (ToolCall(name="f", arguments='{"a": 1}'),)


@pytest.mark.parametrize("role", ["tool", "function", "observation", "tool_response", "ipython"])
def test_the_result_of_a_tool_is_kept_with_the_call_that_it_answers(tmp_path: Path, role: str) -> None:
    result = said(role, "21 °C", tool_call_id="c1", name="temperature")
    turn = turns(tmp_path, ASKED, said("assistant", None, tool_calls=[CALL]), result, said("assistant", "21."))[2]
    assert (turn.role, turn.content, turn.tool_call_id, turn.name) == ("tool", "21 °C", "c1", "temperature")


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ({"celsius": 21}, '{"celsius": 21}'),
        ([{"room": "é"}], '[{"room": "é"}]'),
        ([{"type": "restaurant"}], '[{"type": "restaurant"}]'),
        ([{"type": "text", "text": "21"}], "21"),
        (21, "21"),
        (True, "true"),
        (None, ""),
    ],
)
def test_a_result_that_is_no_text_becomes_json_text(tmp_path: Path, content: object, text: str) -> None:
    called = said("assistant", None, tool_calls=[CALL])
    assert turns(tmp_path, ASKED, called, said("tool", content), said("assistant", "a"))[2].content == text


@pytest.mark.parametrize(
    "given",
    [
        {"tools": [IN_OPENAI_FORMAT]},
        {"tools": [TOOL]},
        {"tools": json.dumps([TOOL])},
        {"functions": [TOOL]},
        {"tools": [{"name": "temperature", "description": "Measures.", "input_schema": TOOL["parameters"]}]},
    ],
)
def test_tools_are_kept_in_the_openai_format(tmp_path: Path, given: dict[str, Any]) -> None:
    messages = [ASKED, said("assistant", "a")]
    assert one_row(tmp_path, {"messages": messages, **given}).tools == (IN_OPENAI_FORMAT,)


@pytest.mark.parametrize("empty", ["", "[]", [], None])
def test_an_empty_column_of_tools_is_no_tool(tmp_path: Path, empty: object) -> None:
    assert one_row(tmp_path, {"messages": [ASKED, said("assistant", "a")], "tools": empty}).tools == ()


@pytest.mark.parametrize(
    ("tools", "found"),
    [
        ("a hammer", "tools: expected JSON"),
        ([{"type": "web_search"}], "tools[0]: expected a function with its name"),
        (5, "tools: expected a list of tools, got int"),
    ],
)
def test_tools_that_are_no_functions_set_the_row_aside(tmp_path: Path, tools: object, found: str) -> None:
    assert reason(tmp_path, {"messages": [ASKED, said("assistant", "a")], "tools": tools}).startswith(found)


@pytest.mark.parametrize(
    ("message", "found"),
    [
        ({"tool_calls": ["x"]}, "tool_calls[0]: expected an object with name and arguments, got str"),
        ({"tool_calls": "x"}, "tool_calls: expected JSON"),
        ({"tool_calls": [{"function": {}}]}, "tool_calls[0].function.name: expected the name of a function"),
        (
            {"tool_calls": [{"name": "f", "arguments": "[1]"}]},
            "tool_calls[0].arguments: expected a JSON object",
        ),
        ({"tool_calls": [{"name": "f", "arguments": "{"}]}, "tool_calls[0].arguments: expected JSON"),
        ({"tool_calls": [{"type": "custom", "name": "f"}]}, "tool_calls[0].type: expected function"),
        ({"tool_calls": [CALL], "function_call": FUNCTION}, "expected tool_calls or function_call, got both"),
    ],
)
def test_a_call_that_cannot_be_used_sets_the_row_aside(tmp_path: Path, message: dict[str, Any], found: str) -> None:
    answer = said("assistant", "", **message)
    assert found in reason(tmp_path, {"messages": [ASKED, answer]})


def test_a_call_of_a_user_sets_the_row_aside(tmp_path: Path) -> None:
    record = {"messages": [said("user", "q", tool_calls=[CALL]), said("assistant", "a")]}
    assert reason(tmp_path, record) == "messages[0].tool_calls: expected only in an assistant message"


def test_arguments_that_are_no_valid_unicode_set_the_row_aside(tmp_path: Path) -> None:
    call = {"name": "f", "arguments": {"a": "\ud800"}}
    assert "not valid Unicode" in reason(tmp_path, {"messages": [ASKED, said("assistant", "", tool_calls=[call])]})


def test_a_query_is_answered_by_calls(tmp_path: Path) -> None:
    record = {"query": "q", "answers": json.dumps([{"name": "f", "arguments": {"a": 1}}]), "tools": json.dumps([TOOL])}
    row = one_row(tmp_path, record)
    assert (row.turns[1].tool_calls, row.tools) == ((ToolCall(name="f", arguments='{"a": 1}'),), (IN_OPENAI_FORMAT,))
