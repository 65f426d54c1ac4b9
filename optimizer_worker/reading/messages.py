"""Convert lists of messages to conversations."""

from __future__ import annotations

from typing import Any, NamedTuple

from contracts.rows import Turn
from optimizer_worker.reading.contents import text_of
from optimizer_worker.reading.fields import Fields, NotLearnt, RecordError, decoded, first_text, kind
from optimizer_worker.reading.flags import LEARN_FIELDS, learns
from optimizer_worker.reading.turns import ROLE_FIELDS, filled_fields, plain_turn, turn_of, unused_fields

SYSTEM_FIELDS = ("system", "system_prompt", "system_message")
EXCHANGES = (("human", "assistant"), ("user", "assistant"), ("input", "output"), ("prompt", "response"))
"""Fields of an item that is not one message, but a question with its answer."""
UNANSWERED = "turns after the last answer are left out"


class Conversation(NamedTuple):
    """Turns, the names of the messages' fields that were not used, and how the turns were read, if not as they are."""

    turns: tuple[Turn, ...]
    unused: frozenset[str] = frozenset()
    notes: tuple[str, ...] = ()


def conversation(record: Fields, field: str) -> Conversation:
    """Convert the messages in `field`, and the record's system prompt.

    Raises RecordError if a message is invalid or no answer to a user is to be learnt.
    """
    listed = message_list(record, field)
    return answered(with_system(record, listed.turns), field, listed.unused)


def message_list(record: Fields, field: str) -> Conversation:
    """Convert the messages in `field`, also if they are JSON text. Raises RecordError if one is invalid."""
    items = decoded(record.get(field), field)
    if not isinstance(items, list) or not items:
        got = "an empty list" if items == [] else kind(items)
        raise RecordError(f"{field}: expected a list of messages, got {got}")
    turns: list[Turn] = []
    unused: set[str] = set()
    for i, item in enumerate(items):
        if turn := plain_turn(item):
            turns.append(turn)
        else:
            further = _turns(item, f"{field}[{i}]")
            turns += further.turns
            unused |= further.unused
    return Conversation(tuple(turns), frozenset(f"{field}[].{name}" for name in unused))


def is_message(item: object) -> bool:
    """Whether `item` looks like a message, or like a question with its answer."""
    if not isinstance(item, dict):
        return False
    return any(name in item for name in ROLE_FIELDS) or any(item.keys() >= {*pair} for pair in EXCHANGES)


def with_system(record: Fields, turns: tuple[Turn, ...]) -> tuple[Turn, ...]:
    """Return the turns behind the record's system prompt. Raises RecordError if the messages have another one."""
    given = {name: text_of(record[name], name) for name in SYSTEM_FIELDS if record.get(name) is not None}
    if not (text := first_text(given, SYSTEM_FIELDS)):
        return turns
    if turns[0].role != "system":
        return (Turn(role="system", content=text), *turns)
    if turns[0].content != text:
        raise RecordError("system: expected one system prompt, got one as a field and another as a message")
    return turns


def answered(turns: tuple[Turn, ...], field: str, unused: frozenset[str]) -> Conversation:
    """Return the turns up to the last answer that is to be learnt, with a note if they do not end with an answer.

    Raises NotLearnt if no answer is to be learnt, and RecordError if there is none or no user before it.
    """
    last = turns[-1]
    if last.role == "assistant" and last.learn and (turns[-2:-1] and turns[-2].role == "user"):
        return Conversation(turns, unused)
    if all(turn.role != "assistant" for turn in turns):
        raise RecordError(f"{field}: expected the assistant's answer at the end, got a {last.role} turn")
    end = next((i for i in range(len(turns), 0, -1) if turns[i - 1].role == "assistant" and turns[i - 1].learn), 0)
    if not end:
        raise NotLearnt(f"{field}: no message of this row is to be learnt")
    if all(turn.role != "user" for turn in turns[:end]):
        raise RecordError(f"{field}: expected a user turn before the answer")
    return Conversation(turns[:end], unused, () if last.role == "assistant" else (UNANSWERED,))


def _turns(item: object, place: str) -> Conversation:
    if not isinstance(item, dict):
        raise RecordError(f"{place}: expected an object with role and content, got {kind(item)}")
    role = next((name for name in ROLE_FIELDS if name in item), None)
    if role is None:
        return _exchange(item, place)
    return Conversation((turn_of(item, role, place),), unused_fields(item, role))


def _exchange(item: dict[str, Any], place: str) -> Conversation:
    for question, answer in EXCHANGES:
        if question in item and answer in item:
            asked = Turn(role="user", content=text_of(item[question], f"{place}.{question}"))
            said = Turn(role="assistant", content=text_of(item[answer], f"{place}.{answer}"), learn=learns(item, place))
            used = {question, answer, *SYSTEM_FIELDS, *LEARN_FIELDS}
            return Conversation(with_system(item, (asked, said)), frozenset(filled_fields(item, used)))
    raise RecordError(f"{place}: expected an object with role and content, or with from and value")
