"""Convert one message to its turn, whatever the names of its role and of its fields are."""

from __future__ import annotations

from collections.abc import Set
from typing import Any, Literal

from contracts.rows import ToolCall, Turn
from optimizer_worker.reading.contents import MEDIA_FIELDS, require_text_only, result_of, text_of
from optimizer_worker.reading.fields import Fields, RecordError, first_text, kind, lined
from optimizer_worker.reading.flags import LEARN_FIELDS, learns
from optimizer_worker.reading.tools import calls_in, calls_of

Role = Literal["system", "user", "assistant", "tool", "calls"]
"""The role of a turn; "calls" is an assistant's message whose content is the calls."""

ROLES: dict[str, Role] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "prompter": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "model": "assistant",
    "bot": "assistant",
    "chatbot": "assistant",
    "ai": "assistant",
    "tool": "tool",
    "function": "tool",
    "observation": "tool",
    "tool_response": "tool",
    "tool_result": "tool",
    "ipython": "tool",
    "function_call": "calls",
    "tool_call": "calls",
}
"""Roles by the names that files give them."""
ROLE_FIELDS = ("role", "from", "speaker", "author", "sender")
CONTENT_FIELDS = ("content", "value", "text", "message")
REASONING_FIELDS = ("reasoning_content", "reasoning", "thinking")
_PLAIN = ({"role", "content"}, {"from", "value"})
_CALL_FIELDS = ("tool_calls", "function_call")
_PARTIAL_FIELDS = ("train_detail", "refusal")
"""Fields that say what of a message to learn, or another answer than its content; Treadle cannot heed them."""
_HARMLESS = frozenset({"id", "index", "timestamp", "created_at", "date", "lang", "language", "model", "annotations"})
"""Fields of a message that are known to carry nothing for training."""
_OF_ANSWERS = frozenset({*_CALL_FIELDS, *REASONING_FIELDS, *LEARN_FIELDS})
_OF_ALL = frozenset({"name", *MEDIA_FIELDS, *_PARTIAL_FIELDS})
_WEIGHTS = ("learn", "weight", "loss_weight")
"""Flags that files give to every message, also to those that are never learnt."""
_EMPTY: tuple[object, ...] = (None, "", [], {})


def plain_turn(item: object) -> Turn | None:
    """Return the turn of a message that has a known role and a text, and nothing else; a fast way for most messages."""
    if type(item) is not dict or item.keys() not in _PLAIN:
        return None
    name, text = item.values() if next(iter(item)) in ROLE_FIELDS else reversed(item.values())
    if type(name) is not str or type(text) is not str:
        return None
    role = ROLES.get(name)
    return None if role is None or role == "calls" else Turn(role=role, content=lined(text))


def turn_of(item: dict[str, Any], role_field: str, place: str) -> Turn:
    """Return the turn of a message. Raises RecordError if a field is invalid or has no place in a turn."""
    require_text_only(item, f"{place}.")
    for name in _PARTIAL_FIELDS:
        if item.get(name):
            raise RecordError(f"{place}.{name}: expected nothing, because Treadle learns whole contents only")
    role = _role(item[role_field], f"{place}.{role_field}")
    field = content_field(item)
    value, inside = item.get(field), f"{place}.{field}"
    if role == "calls":
        return _answer(item, "", calls_in(value, inside), place)
    if role == "assistant":
        calls = calls_of(item, place)
        if value is None and not calls:
            raise RecordError(f"{place}: expected {field} or tool_calls, got neither")
        return _answer(item, "" if value is None else text_of(value, inside), calls, place)
    if called := next((name for name in _CALL_FIELDS if item.get(name)), None):
        raise RecordError(f"{place}.{called}: expected only in an assistant message")
    if role == "tool":
        call_id, text = _string(item, "tool_call_id", place), result_of(value, inside)
        return Turn(role="tool", content=text, tool_call_id=call_id, name=_string(item, "name", place))
    return Turn(role=role, content=text_of(value, inside), name=_string(item, "name", place))


def unused_fields(item: dict[str, Any], role_field: str) -> frozenset[str]:
    """Return the fields of a message that hold something and that its turn does not have."""
    role = _role(item[role_field], role_field)
    used = _OF_ALL | {role_field, content_field(item)}
    if role in ("assistant", "calls"):
        return filled_fields(item, used | _OF_ANSWERS)
    heeded = {name for name in LEARN_FIELDS if name in _WEIGHTS or item.get(name) is not True}
    return filled_fields(item, used | heeded | ({"tool_call_id"} if role == "tool" else set()))


def filled_fields(item: dict[str, Any], used: Set[str]) -> frozenset[str]:
    """Return the fields that hold something, are not in `used` and may matter."""
    return frozenset(name for name in item.keys() - used - _HARMLESS if item[name] not in _EMPTY)


def content_field(item: Fields) -> str:
    """Return the name of the field with the message's content."""
    return next((name for name in CONTENT_FIELDS if name in item), "content")


def reasoning_of(holder: Fields, place: str = "") -> str:
    """Return the thoughts in a field of their own. Raises RecordError if they are no text, or two different ones."""
    return first_text(holder, REASONING_FIELDS, place)


def _role(name: object, place: str) -> Role:
    role = ROLES.get(name.strip().lower()) if isinstance(name, str) else None
    if role is None:
        raise RecordError(f"{place}: expected one of {', '.join(ROLES)}", f", got {name!r:.40}")
    return role


def _answer(item: dict[str, Any], content: str, calls: tuple[ToolCall, ...], place: str) -> Turn:
    return Turn(
        role="assistant",
        content=content,
        reasoning=reasoning_of(item, f"{place}."),
        tool_calls=calls,
        name=_string(item, "name", place),
        learn=learns(item, place),
    )


def _string(item: dict[str, Any], field: str, place: str) -> str | None:
    value = item.get(field)
    if value is None or isinstance(value, str):
        return lined(value) if value else None
    raise RecordError(f"{place}.{field}: expected a string, got {kind(value)}")
