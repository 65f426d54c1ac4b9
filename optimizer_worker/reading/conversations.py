"""Lists of messages, as OpenAI, ShareGPT and Treadle write them, to turns."""

from __future__ import annotations

from contracts.rows import Turn
from optimizer_worker.reading.fields import Fields, Unfit, kind

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
    """The messages in `field`, whose keys are `role` and `content`. Raises Unfit where they end unanswered."""
    items = record.get(field)
    if not isinstance(items, list) or not items:
        raise Unfit(f"{field}: expected a list of messages, got {'an empty one' if items == [] else kind(items)}")
    turns = tuple(_turn(item, f"{field}[{i}]", role, content) for i, item in enumerate(items))
    _is_answered(turns, field)
    return turns


def pair(question: str, answer: str) -> tuple[Turn, Turn]:
    """One question and its answer."""
    return Turn(role="user", content=question), Turn(role="assistant", content=answer)


def _turn(item: object, where: str, role: str, content: str) -> Turn:
    if not isinstance(item, dict):
        raise Unfit(f"{where}: expected an object with {role} and {content}, got {kind(item)}")
    name = item.get(role)
    if not isinstance(name, str) or name not in ROLES:
        raise Unfit(f"{where}.{role}: expected one of {', '.join(ROLES)}, got {name!r}")
    return Turn.model_validate({"role": ROLES[name], "content": _text_of(item.get(content), f"{where}.{content}")})


def _text_of(value: object, where: str) -> str:
    """A message's content: a string, or the list of parts that the OpenAI format allows where all are text."""
    if isinstance(value, str):
        return value
    if isinstance(value, list) and all(isinstance(p, dict) and isinstance(p.get("text"), str) for p in value):
        return "\n".join(part["text"] for part in value)
    raise Unfit(f"{where}: expected a string or a list of text parts, got {kind(value)}")


def _is_answered(turns: tuple[Turn, ...], field: str) -> None:
    if turns[-1].role != "assistant":
        raise Unfit(f"{field}: expected the assistant's answer at the end, got the {turns[-1].role}'s turn")
    if all(turn.role != "user" for turn in turns):
        raise Unfit(f"{field}: expected a user's turn before the answer")
