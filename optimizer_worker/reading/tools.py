"""Read tool calls and the tools that a conversation may call."""

from __future__ import annotations

import json
from typing import Any

import orjson

from contracts.rows import ToolCall
from optimizer_worker.reading.fields import Fields, RecordError, decoded, kind, lined

TOOL_FIELDS = ("tools", "functions")
"""Fields of a record with its tools; `functions` is the older name."""


def calls_of(message: Fields, place: str) -> tuple[ToolCall, ...]:
    """Return the calls in `tool_calls`, or in the older `function_call`. Raises RecordError if one is invalid."""
    calls = decoded(message.get("tool_calls"), f"{place}.tool_calls")
    call = message.get("function_call")
    if calls and call:
        raise RecordError(f"{place}: expected tool_calls or function_call, got both")
    if call:
        return (_call(call, f"{place}.function_call"),)
    return calls_in(calls, f"{place}.tool_calls") if calls else ()


def calls_in(value: object, place: str) -> tuple[ToolCall, ...]:
    """Return the calls of a list, of one object, or of the JSON text of either; an empty list is no call."""
    value = decoded(value, place)
    if isinstance(value, dict):
        return (_call(value, place),)
    if not isinstance(value, list) or not value:
        raise RecordError(f"{place}: expected a list of calls, got {'an empty list' if value == [] else kind(value)}")
    return tuple(_call(item, f"{place}[{i}]") for i, item in enumerate(value))


def tools_of(record: Fields) -> tuple[dict[str, Any], ...]:
    """Return the record's tools in the OpenAI format. Raises RecordError if they are no list of functions."""
    given = [(name, value) for name in TOOL_FIELDS if (value := decoded(record.get(name), name))]
    if len(given) > 1:
        raise RecordError("expected tools or functions, got both")
    return tuple(tool for name, value in given for tool in _tools(value, name))


def json_text(value: object, place: str) -> str:
    """Return `value` as JSON text. Raises RecordError if it holds text that is not valid Unicode."""
    try:
        orjson.dumps(value, default=float)
    except TypeError as error:
        raise RecordError(f"{place}: holds text that is not valid Unicode, or is nested too deeply") from error
    return json.dumps(value, ensure_ascii=False)


def _call(item: object, place: str) -> ToolCall:
    if not isinstance(item, dict):
        raise RecordError(f"{place}: expected an object with name and arguments, got {kind(item)}")
    if item.get("type", "function") not in ("function", "tool_call"):
        raise RecordError(f"{place}.type: expected function", f", got {item['type']!r:.40}")
    function, inside = (item["function"], f"{place}.function") if "function" in item else (item, place)
    if not isinstance(function, dict) or not isinstance(function.get("name"), str) or not function["name"]:
        raise RecordError(f"{inside}.name: expected the name of a function")
    arguments = function.get("arguments", function.get("parameters"))
    call_id = item.get("id")
    if call_id is not None and not isinstance(call_id, str):
        raise RecordError(f"{place}.id: expected a string, got {kind(call_id)}")
    lined(call_id or "")
    return ToolCall(name=lined(function["name"]), arguments=_arguments(arguments, f"{inside}.arguments"), id=call_id)


def _arguments(value: object, place: str) -> str:
    """Return the arguments as the JSON text of an object; text is kept as it is."""
    if value is None or value == "":
        return "{}"
    if isinstance(value, dict):
        return json_text(value, place)
    if isinstance(value, str) and isinstance(decoded(value, place), dict):
        return value
    raise RecordError(f"{place}: expected a JSON object")


def _tools(value: object, name: str) -> list[dict[str, Any]]:
    items = [value] if isinstance(value, dict) else value
    if not isinstance(items, list):
        raise RecordError(f"{name}: expected a list of tools, got {kind(value)}")
    json_text(items, name)
    return [_tool(item, f"{name}[{i}]") for i, item in enumerate(items)]


def _tool(item: object, place: str) -> dict[str, Any]:
    """Return a tool in the OpenAI format, in which the function is a field of its own."""
    if isinstance(item, dict):
        function = item.get("function")
        if isinstance(function, dict) and isinstance(function.get("name"), str):
            return {"type": "function", **item}
        if "function" not in item and isinstance(item.get("name"), str):
            return {"type": "function", "function": _bare(item)}
    raise RecordError(f"{place}: expected a function with its name")


def _bare(tool: dict[str, Any]) -> dict[str, Any]:
    names = {"input_schema": "parameters"}
    return {names.get(name, name): value for name, value in tool.items() if name != "type"}
