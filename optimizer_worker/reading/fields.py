"""Read fields of a record; an error says what was expected."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping
from typing import Any

import orjson

from optimizer_worker.reading.exact_json import Written, checked, repeated_field

Fields = Mapping[str, Any]

MAX_LISTED = 300
"""Maximum characters of the names of fields in an error text."""
_PYTHON = re.compile(r"\s*[\[{][\[{\s]*'")
_INDEX = re.compile(r"\[\d+\]")
_NAMELESS = {"Cc", "Cf", "Zl", "Zp", "Zs"}
"""Unicode categories of the characters that do not belong to the edges of a name."""


class RecordError(ValueError):
    """A record cannot be used; `quoted` is the end of the text that quotes the record."""

    def __init__(self, problem: str, quoted: str = "") -> None:
        self._problem = problem
        super().__init__(problem + quoted)

    @property
    def kind(self) -> str:
        """The same text for records with the same problem, without anything that a record holds."""
        return _INDEX.sub("[…]", self._problem)


class NotLearnt(RecordError):
    """A record is marked as not to be learnt."""


def required(record: Fields, field: str) -> str:
    """Return the string in `field`. Raises RecordError if there is none."""
    value = record.get(field)
    if isinstance(value, str):
        return lined(value)
    fix = "; write it in double quotes" if isinstance(value, int | float) else ""
    raise RecordError(f"{field}: expected a string, got {kind(value)}{fix}")


def optional(record: Fields, field: str) -> str:
    """Return the string in `field`, or an empty string if it is absent or null. Raises RecordError for other types."""
    return "" if record.get(field) is None else required(record, field)


def first_text(record: Fields, names: tuple[str, ...], place: str = "") -> str:
    """Return the text of the fields `names`, of which one may hold something. Raises RecordError for other types."""
    found = ""
    for name in names:
        value = record.get(name)
        if value is None or value == found:
            continue
        if not isinstance(value, str):
            raise RecordError(f"{place}{name}: expected a string, got {kind(value)}")
        if found and value:
            raise RecordError(f"{place}{name}: expected one of {', '.join(names)}, got two different texts")
        found = found or value
    return lined(found)


def lined(text: str) -> str:
    """Return `text` with line feeds as its only line ends, else unchanged. Raises RecordError for lone surrogates."""
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise RecordError("holds text that is not valid Unicode") from error
    return text.replace("\r\n", "\n").replace("\r", "\n") if "\r" in text else text


def scalar(record: Fields, field: str) -> str:
    """Return the text in `field`, or the number as it is written; JSON's true is `true`.

    Raises RecordError for other types.
    """
    value = record.get(field)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Written):
        return value.text
    return str(value) if isinstance(value, int | float) else required(record, field)


def category(record: Fields) -> str:
    """Return the record's `category` or `slice`, or "all"."""
    for field in ("category", "slice"):
        value = record.get(field)
        if isinstance(value, str | int | float) and (name := display_name(scalar(record, field))):
            return name
    return "all"


def display_name(text: str) -> str:
    """Return `text` without control characters, and without white space and invisible characters at its ends."""
    if text.isascii() and text.isprintable():
        return text.strip(" ")
    text = "".join(sign for sign in text if unicodedata.category(sign) != "Cc" or sign in "\n\t")
    start, end = 0, len(text)
    while start < end and unicodedata.category(text[start]) in _NAMELESS:
        start += 1
    while end > start and unicodedata.category(text[end - 1]) in _NAMELESS:
        end -= 1
    return text[start:end]


def decoded(value: object, field: str) -> object:
    """Return `value`, or what it holds if it is JSON text, as in a CSV column. Raises RecordError if it is neither."""
    if not isinstance(value, str):
        return value
    if not value.strip():
        return None
    try:
        found = checked(orjson.loads(value), value.encode())
    except orjson.JSONDecodeError as error:
        got = "Python, with single quotes" if _PYTHON.match(value) else "other text"
        raise RecordError(f"{field}: expected JSON, as json.dumps writes it, got {got}") from error
    if repeated := repeated_field(found):
        raise RecordError(f"{field}: a field is given twice", f": {listed([repeated])}")
    return found


def listed(names: Iterable[str]) -> str:
    """Return names for an error text, as valid Unicode and not too many."""
    text = ", ".join(names).encode(errors="replace").decode().replace("\0", "?") or "none"
    return text if len(text) <= MAX_LISTED else f"{text[:MAX_LISTED]}…"


def kind(value: object) -> str:
    """Return the name of the value's type for an error text."""
    return "nothing" if value is None else type(value).__name__
