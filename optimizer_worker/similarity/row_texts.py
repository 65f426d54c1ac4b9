"""The texts by which rows are compared: everything that distinguishes two rows for a model."""

from __future__ import annotations

from collections.abc import Iterator

import orjson

from contracts.rows import Row, Turn


def compared_prompt(row: Row) -> str:
    """Return the prompt, with the reasoning and the tool calls of earlier turns and the tools that may be called."""
    if row.text is not None:
        return row.text
    tools = [orjson.dumps(tool).decode() for tool in row.tools]
    return "\n".join([*(line for turn in row.turns[:-1] for line in _lines(turn)), *tools])


def compared_answer(row: Row) -> str:
    """Return the expected answer, with its reasoning and its tool calls; empty for plain text."""
    return "\n".join(_lines(row.turns[-1])) if row.turns else ""


def _lines(turn: Turn) -> Iterator[str]:
    yield from filter(None, (turn.reasoning, turn.content))
    for call in turn.tool_calls:
        yield f"{call.name} {call.arguments}"
