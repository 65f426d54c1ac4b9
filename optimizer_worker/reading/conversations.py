"""Convert lists of messages, in the OpenAI, ShareGPT and Treadle formats, to turns."""

from __future__ import annotations

from contracts.rows import Turn
from optimizer_worker.reading.fields import Fields, RecordError, kind

ROLES = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "model": "assistant",
}


def conversation(record: Fields, field: str, role: str, content: str) -> tuple[Turn, ...]:
    """Convert the messages in `field`, whose keys are `role` and `content`.

    Raises RecordError if a message is invalid or the list does not end with an answer to a user.
    """
    items = record.get(field)
    if not isinstance(items, list) or not items:
        raise RecordError(
            f"{field}: expected a list of messages, got {'an empty list' if items == [] else kind(items)}"
        )
    turns = tuple(_turn(item, f"{field}[{i}]", role, content) for i, item in enumerate(items))
    _require_answer(turns, field)
    return turns


def pair(question: str, answer: str) -> tuple[Turn, Turn]:
    """Return the turns of one question and its answer."""
    return Turn(role="user", content=question), Turn(role="assistant", content=answer)


def _turn(item: object, location: str, role: str, content: str) -> Turn:
    if not isinstance(item, dict):
        raise RecordError(f"{location}: expected an object with {role} and {content}, got {kind(item)}")
    name = item.get(role)
    if not isinstance(name, str) or name not in ROLES:
        raise RecordError(f"{location}.{role}: expected one of {', '.join(ROLES)}, got {name!r}")
    return Turn.model_validate({"role": ROLES[name], "content": _text_of(item.get(content), f"{location}.{content}")})


def _text_of(value: object, location: str) -> str:
    """Return a message's content, which is a string or, in the OpenAI format, a list of text parts."""
    if isinstance(value, str):
        return value
    if isinstance(value, list) and all(isinstance(p, dict) and isinstance(p.get("text"), str) for p in value):
        return "\n".join(part["text"] for part in value)
    raise RecordError(f"{location}: expected a string or a list of text parts, got {kind(value)}")


def _require_answer(turns: tuple[Turn, ...], field: str) -> None:
    if turns[-1].role != "assistant":
        raise RecordError(f"{field}: expected the assistant's answer at the end, got a {turns[-1].role} turn")
    if all(turn.role != "user" for turn in turns):
        raise RecordError(f"{field}: expected a user turn before the answer")
