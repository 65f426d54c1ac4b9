from __future__ import annotations

from contracts.rows import Row, ToolCall, Turn
from optimizer_worker.operators.conflicts import label_conflicts
from optimizer_worker.operators.duplicates import exact_duplicates

QUESTION = Turn(role="user", content="Book the cheapest flight.")
DONE = Turn(role="assistant", content="Done.")


def called(place: str) -> tuple[Turn, ...]:
    call = ToolCall(name="search", arguments=f'{{"to": "{place}"}}')
    result = Turn(role="tool", content="ok")
    return QUESTION, Turn(role="assistant", content="", tool_calls=(call,)), result, DONE


def test_earlier_tool_calls_distinguish_rows() -> None:
    rows = [Row(id=str(n), turns=called(place)) for n, place in enumerate(("rome", "oslo", "rome"))]
    assert [decision.row for decision in exact_duplicates(rows)] == ["2"]


def test_tools_distinguish_rows() -> None:
    tools = [({"type": "function", "function": {"name": name}},) for name in ("search", "book")]
    rows = [Row(id=str(n), turns=(QUESTION, DONE), tools=given) for n, given in enumerate(tools)]
    assert exact_duplicates(rows) == []


def test_reasoning_distinguishes_answers() -> None:
    answers = [DONE.model_copy(update={"reasoning": f"way {way}"}) for way in "abc"]
    rows = [Row(id=str(n), turns=(QUESTION, answer)) for n, answer in enumerate(answers)]
    assert exact_duplicates(rows) == []


def test_different_calls_for_one_prompt_are_different_answers() -> None:
    calls = [ToolCall(name="open", arguments="{}"), ToolCall(name="close", arguments="{}")]
    turns = [Turn(role="assistant", content="", tool_calls=(call,)) for call in calls]
    (group,) = label_conflicts([Row(id=str(n), turns=(QUESTION, turn)) for n, turn in enumerate(turns)])
    assert len(group) == 2
