"""The supported record formats, each recognised by its fields; a new format is a new entry in FORMATS."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import NamedTuple

from contracts.rows import Turn
from optimizer_worker.reading.conversations import conversation, pair
from optimizer_worker.reading.fields import Fields, RecordError, category, optional, required


class ParsedRecord(NamedTuple):
    """The content of a record, before it has an id."""

    turns: tuple[Turn, ...] = ()
    text: str | None = None
    slice: str = "all"


@dataclass(frozen=True, slots=True)
class RecordFormat:
    """A record format, recognised by the fields in `needs`."""

    name: str
    needs: tuple[str, ...]
    convert: Callable[[Fields], ParsedRecord]

    def describes(self, fields: Iterable[str]) -> bool:
        """Whether a record with these fields has this format."""
        return set(self.needs) <= set(fields)

    def __str__(self) -> str:
        return f"{self.name} ({', '.join(self.needs)})"


def detect(fields: Iterable[str]) -> RecordFormat | None:
    """Return the first format that describes these fields; FORMATS lists the more specific formats first."""
    present = set(fields)
    return next((form for form in FORMATS if form.describes(present)), None)


def _from_messages(record: Fields) -> ParsedRecord:
    return ParsedRecord(conversation(record, "messages", "role", "content"), slice=category(record))


def _from_sharegpt(record: Fields) -> ParsedRecord:
    turns = conversation(record, "conversations", "from", "value")
    return ParsedRecord((*_system(record), *turns), slice=category(record))


def _from_rows(record: Fields) -> ParsedRecord:
    if record["turns"] == [] and record.get("text") is not None:
        return _from_text(record)
    return ParsedRecord(conversation(record, "turns", "role", "content"), slice=category(record))


def _from_alpaca(record: Fields) -> ParsedRecord:
    given = optional(record, "input")
    question = required(record, "instruction") + (f"\n{given}" if given else "")
    turns = (*_system(record), *_history(record), *pair(question, required(record, "output")))
    return ParsedRecord(turns, slice=category(record))


def _history(record: Fields) -> tuple[Turn, ...]:
    history = record.get("history") or []
    if not isinstance(history, list) or not all(_is_exchange(item) for item in history):
        raise RecordError("history: expected a list of [question, answer] pairs of strings")
    return tuple(turn for question, answer in history for turn in pair(question, answer))


def _is_exchange(item: object) -> bool:
    return isinstance(item, list) and len(item) == 2 and all(isinstance(text, str) for text in item)


def _system(record: Fields) -> tuple[Turn, ...]:
    text = optional(record, "system")
    return (Turn(role="system", content=text),) if text else ()


def _pairs(question: str, answer: str) -> RecordFormat:
    def convert(record: Fields) -> ParsedRecord:
        turns = pair(required(record, question), required(record, answer))
        return ParsedRecord((*_system(record), *turns), slice=category(record))

    return RecordFormat("question and answer", (question, answer), convert)


def _labelled(label: str) -> RecordFormat:
    def convert(record: Fields) -> ParsedRecord:
        value = record.get(label)
        answer = str(value) if isinstance(value, int) else required(record, label)
        return ParsedRecord(pair(required(record, "text"), answer), slice=answer.strip() or "all")

    return RecordFormat("text and category", ("text", label), convert)


def _from_text(record: Fields) -> ParsedRecord:
    return ParsedRecord(text=required(record, "text"), slice=category(record))


FORMATS: tuple[RecordFormat, ...] = (
    RecordFormat("OpenAI messages", ("messages",), _from_messages),
    RecordFormat("ShareGPT", ("conversations",), _from_sharegpt),
    RecordFormat("Treadle rows", ("turns",), _from_rows),
    RecordFormat("alpaca", ("instruction", "output"), _from_alpaca),
    _pairs("prompt", "response"),
    _pairs("prompt", "completion"),
    _pairs("question", "answer"),
    _labelled("category"),
    _labelled("label"),
    RecordFormat("plain text", ("text",), _from_text),
)
