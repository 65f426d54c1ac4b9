"""The record shapes that are understood, each with the fields it is known by. A new one is an entry here."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import NamedTuple

from contracts.rows import Turn
from optimizer_worker.reading.conversations import conversation, pair
from optimizer_worker.reading.fields import Fields, Unfit, category, optional, required


class Example(NamedTuple):
    """What a record holds, before it has an id."""

    turns: tuple[Turn, ...] = ()
    text: str | None = None
    slice: str = "all"


@dataclass(frozen=True, slots=True)
class Format:
    """A record shape: `needs` are the fields that tell it from the others."""

    name: str
    needs: tuple[str, ...]
    convert: Callable[[Fields], Example]

    def describes(self, fields: Iterable[str]) -> bool:
        """Whether a record with these fields has this shape."""
        return set(self.needs) <= set(fields)

    def __str__(self) -> str:
        return f"{self.name} ({', '.join(self.needs)})"


def detect(fields: Iterable[str]) -> Format | None:
    """The first format that describes these fields; the more specific ones stand first."""
    present = set(fields)
    return next((form for form in FORMATS if form.describes(present)), None)


def _from_messages(record: Fields) -> Example:
    return Example(conversation(record, "messages", "role", "content"), slice=category(record))


def _from_sharegpt(record: Fields) -> Example:
    turns = conversation(record, "conversations", "from", "value")
    return Example((*_system(record), *turns), slice=category(record))


def _from_rows(record: Fields) -> Example:
    if record["turns"] == [] and record.get("text") is not None:
        return _from_text(record)
    return Example(conversation(record, "turns", "role", "content"), slice=category(record))


def _from_alpaca(record: Fields) -> Example:
    given = optional(record, "input")
    question = required(record, "instruction") + (f"\n{given}" if given else "")
    turns = (*_system(record), *_history(record), *pair(question, required(record, "output")))
    return Example(turns, slice=category(record))


def _history(record: Fields) -> tuple[Turn, ...]:
    history = record.get("history") or []
    if not isinstance(history, list) or not all(_is_exchange(item) for item in history):
        raise Unfit("history: expected a list of [question, answer] pairs of strings")
    return tuple(turn for question, answer in history for turn in pair(question, answer))


def _is_exchange(item: object) -> bool:
    return isinstance(item, list) and len(item) == 2 and all(isinstance(text, str) for text in item)


def _system(record: Fields) -> tuple[Turn, ...]:
    text = optional(record, "system")
    return (Turn(role="system", content=text),) if text else ()


def _pairs(question: str, answer: str) -> Format:
    def convert(record: Fields) -> Example:
        turns = pair(required(record, question), required(record, answer))
        return Example((*_system(record), *turns), slice=category(record))

    return Format("question and answer", (question, answer), convert)


def _labelled(label: str) -> Format:
    def convert(record: Fields) -> Example:
        value = record.get(label)
        answer = str(value) if isinstance(value, int) else required(record, label)
        return Example(pair(required(record, "text"), answer), slice=answer.strip() or "all")

    return Format("text and category", ("text", label), convert)


def _from_text(record: Fields) -> Example:
    return Example(text=required(record, "text"), slice=category(record))


FORMATS: tuple[Format, ...] = (
    Format("OpenAI messages", ("messages",), _from_messages),
    Format("ShareGPT", ("conversations",), _from_sharegpt),
    Format("Treadle rows", ("turns",), _from_rows),
    Format("alpaca", ("instruction", "output"), _from_alpaca),
    _pairs("prompt", "response"),
    _pairs("prompt", "completion"),
    _pairs("question", "answer"),
    _labelled("category"),
    _labelled("label"),
    Format("plain text", ("text",), _from_text),
)
