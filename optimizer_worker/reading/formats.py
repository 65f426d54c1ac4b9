"""The supported record formats, each recognised by its fields; a new format is a new entry in FORMATS."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

from contracts.rows import Turn
from optimizer_worker.reading.contents import MEDIA_FIELDS, require_text_only
from optimizer_worker.reading.fields import Fields, category, display_name, required
from optimizer_worker.reading.flags import GOOD, RATING_FIELDS, require_good, row_weight
from optimizer_worker.reading.messages import SYSTEM_FIELDS, Conversation, conversation
from optimizer_worker.reading.pairs import GIVEN_FIELDS, calling, labelled, pair
from optimizer_worker.reading.tools import TOOL_FIELDS, tools_of
from optimizer_worker.reading.turns import REASONING_FIELDS

PREFERENCES = frozenset({"chosen", "rejected"})
"""Fields of preference pairs, which are no rows to learn from."""
_OF_ALL = frozenset({"weight", "category", "slice", *MEDIA_FIELDS})
_RARE = _OF_ALL.union(TOOL_FIELDS, RATING_FIELDS)
_OF_CHATS = frozenset({*_OF_ALL, *TOOL_FIELDS, *SYSTEM_FIELDS})
_OF_PAIRS = frozenset({*_OF_CHATS, "history", *GIVEN_FIELDS, *REASONING_FIELDS})


class ParsedRecord(NamedTuple):
    """The content of a record, before it has an id."""

    turns: tuple[Turn, ...] = ()
    text: str | None = None
    slice: str = "all"
    tools: tuple[dict[str, Any], ...] = ()
    weight: float = 1.0
    unused: frozenset[str] = frozenset()
    """Names of the messages' fields that were not used."""
    notes: tuple[str, ...] = ()
    """How the turns were read, if not as they are."""


@dataclass(frozen=True, slots=True)
class RecordFormat:
    """A record format, recognised by the fields in `needs`; it also uses those in `uses`."""

    name: str
    needs: tuple[str, ...]
    convert: Callable[[Fields], ParsedRecord]
    uses: frozenset[str]

    def __str__(self) -> str:
        return f"{self.name} ({', '.join(self.needs)})"


def detect(fields: Fields) -> RecordFormat | None:
    """Return the first format whose fields the record has, in any case of letters; null counts as absent."""
    present = {folded(name) for name, value in fields.items() if value is not None}
    if present >= PREFERENCES:
        return None
    return next((form for form in FORMATS if present.issuperset(form.needs)), None)


def most_specific(forms: Counter[RecordFormat]) -> RecordFormat | None:
    """Return the most frequent of the formats of a file's records; plain text only if there is no other.

    A record of text whose label is missing looks like plain text.
    """
    return max(forms, key=lambda form: (form is not FORMATS[-1], forms[form]), default=None)


@lru_cache(maxsize=4096)
def folded(name: str) -> str:
    """Return a field's name as the formats write it."""
    return display_name(name).lower()


def _chat(name: str, *needs: str, turns: Callable[[Fields], Conversation], uses: Iterable[str]) -> RecordFormat:
    def convert(record: Fields) -> ParsedRecord:
        found, unused, notes = turns(record)
        if _RARE.isdisjoint(record):
            return ParsedRecord(found, unused=unused, notes=notes)
        require_text_only(record)
        require_good(record)
        weight, tools = row_weight(record), tools_of(record)
        return ParsedRecord(found, slice=category(record), tools=tools, weight=weight, unused=unused, notes=notes)

    return RecordFormat(name, needs, convert, frozenset({*needs, *uses}))


def _listed(name: str, field: str) -> RecordFormat:
    return _chat(name, field, turns=lambda record: conversation(record, field), uses=_OF_CHATS)


def _paired(name: str, question: str, *answers: str) -> list[RecordFormat]:
    def form(answer: str) -> RecordFormat:
        return _chat(name, question, answer, turns=lambda record: pair(record, question, answer), uses=_OF_PAIRS)

    return [form(answer) for answer in answers]


def _labelled(label: str) -> RecordFormat:
    def convert(record: Fields) -> ParsedRecord:
        require_text_only(record)
        turns = labelled(record, "text", label).turns
        return ParsedRecord(turns, slice=display_name(turns[-1].content) or "all", weight=row_weight(record))

    uses = frozenset({"text", label, "weight", *MEDIA_FIELDS, *SYSTEM_FIELDS})
    return RecordFormat("text and category", ("text", label), convert, uses)


def _from_rows(record: Fields) -> ParsedRecord:
    return _from_text(record) if record["turns"] == [] and record.get("text") is not None else _ROWS.convert(record)


def _from_text(record: Fields) -> ParsedRecord:
    require_text_only(record)
    return ParsedRecord(text=required(record, "text"), slice=category(record), weight=row_weight(record))


_ROWS = _listed("Treadle rows", "turns")

FORMATS: tuple[RecordFormat, ...] = (
    _listed("OpenAI messages", "messages"),
    _listed("ShareGPT", "conversations"),
    RecordFormat(_ROWS.name, _ROWS.needs, _from_rows, _ROWS.uses | {"text", "version", "source", "slice_weight"}),
    *(_listed("conversation", name) for name in ("conversation", "dialogue", "dialog", "chat")),
    *_paired("alpaca", "instruction", "output", "response", "completion", "answer"),
    *_paired("question and answer", "prompt", "response", "completion", "output", "answer"),
    *_paired("question and answer", "question", "answer", "response", "output"),
    _chat("tool calls", "query", "answers", "tools", turns=calling, uses=_OF_CHATS),
    *_paired("question and answer", "query", "answer", "response", "output"),
    *_paired("question and answer", "input", "output", "response"),
    *_paired("question and answer", "inputs", "targets"),
    *_paired("question and answer", "user", "assistant"),
    *_paired("question and answer", "context", "response"),
    *(_labelled(name) for name in ("category", "label_text", "label", "intent", "class", "sentiment")),
    RecordFormat("plain text", ("text",), _from_text, _OF_ALL | {"text"}),
)


def _known_formats() -> str:
    names = dict.fromkeys(form.name for form in FORMATS)
    return "; ".join(f"{name} ({' | '.join(_needs(name))})" for name in names)


def _needs(name: str) -> list[str]:
    """Return the fields of the formats of this name; those with the same first field stand together."""
    further: dict[str, list[str]] = {}
    for form in FORMATS:
        if form.name == name:
            further.setdefault(form.needs[0], []).append(", ".join(form.needs[1:]))
    return [f"{first}, {'/'.join(rest)}" if any(rest) else first for first, rest in further.items()]


KNOWN_FORMATS = _known_formats()
"""The formats with the fields that they need, for error texts."""


def unused_fields(fields: Fields, form: RecordFormat) -> list[str]:
    """Return the fields that hold something, and that the format neither uses nor knows to carry nothing to learn."""
    return [name for name in fields if name not in form.uses and name not in HARMLESS and _says_something(fields, name)]


HARMLESS = frozenset(
    {
        *("id", "_id", "idx", "index", "uuid", "key", "hash", "row_id", "prompt_id", "conversation_id", "session_id"),
        *("source", "dataset", "origin", "split", "version", "license", "lang", "language", "model", "model_name"),
        *("created", "created_at", "updated_at", "timestamp", "date", "usage", "finish_reason", "metadata", "meta"),
        *("parallel_tool_calls", "tool_choice", "temperature", "top_p", "max_tokens", "stream", "user_id"),
    }
)
"""Fields that are known to carry nothing for training."""


def _says_something(fields: Fields, name: str) -> bool:
    value = fields[name]
    return value not in (None, "", [], {}) and not (name in RATING_FIELDS and value in GOOD)
