"""Parse JSON, and JSON with the usual mistakes, of which each has a note or a reason."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any, NamedTuple

import orjson

from optimizer_worker.reading.encodings import encoding_problem
from optimizer_worker.reading.fields import RecordError

NO_NUMBER = "NaN and Infinity are not JSON; they count as missing, like null"
COMMA = "a comma after the last item, or after a whole record, is not JSON; it was ignored"
CONTROL = "a line end or tab inside a text is not JSON, which writes \\n or \\t; it was read as it is"
_COMMAS = re.compile(rb'("(?:\\.|[^"\\])*")|,(\s*(?:[\]}]|$))', re.DOTALL)


class Parsed(NamedTuple):
    """A parsed value, and the notes about what in it is no JSON."""

    value: object
    notes: tuple[str, ...] = ()


class Repeated(dict[str, Any]):
    """An object in which a field is given twice; it is `field`."""

    field = ""


def parse(text: bytes) -> Parsed:
    """Parse one JSON text. Raises RecordError with the reason, if not even usual mistakes explain it."""
    try:
        return Parsed(orjson.loads(text))
    except orjson.JSONDecodeError as error:
        return _parse_leniently(text, error)


def checked_names(value: dict[str, Any], text: bytes) -> dict[str, Any]:
    """Return `value`, or a Repeated if `text`, of which it was parsed, gives one of its fields twice."""
    for name in value:
        if text.count(_quoted(name)) > 1:
            again = _with_unique_names(text, value)
            return again if isinstance(again, Repeated) else value
    return value


def repeated_names(items: list[Any], data: bytes) -> list[Any]:
    """Return `items`, with a Repeated for each that gives a field twice in `data`, of which they were parsed."""
    first = next((item for item in items if isinstance(item, dict)), {})
    if all(data.count(_quoted(name)) <= len(items) for name in first):
        return items
    again = _with_unique_names(data, items)
    return again if isinstance(again, list) else items


def _with_unique_names(text: bytes, value: object) -> object:
    """Return `value`, which is `text` parsed, with a Repeated for each object that gives a field twice."""
    try:
        return _with_constants(text.decode(), _object)[0]
    except (ValueError, RecursionError):
        return value


def several(data: bytes) -> list[Any]:
    """Return the objects of a text that is several objects in a row, or an empty list for any other text."""
    if not data.lstrip().startswith(b"{") or not data.rstrip(b" ,\t\r\n").endswith(b"}"):
        return []
    try:
        objects = list(_in_a_row(data.decode().strip()))
    except (ValueError, RecursionError):
        return []
    return objects if len(objects) > 1 else []


def _in_a_row(text: str) -> Iterator[Any]:
    decoder, end = json.JSONDecoder(), 0
    while end < len(text):
        value, end = decoder.raw_decode(text, end)
        yield value
        while end < len(text) and text[end] in " ,\t\r\n":
            end += 1


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) == len(pairs):
        return value
    names = [name for name, _ in pairs]
    repeated = Repeated(value)
    repeated.field = next(name for name in names if names.count(name) > 1)
    return repeated


@lru_cache(maxsize=1024)
def _quoted(name: str) -> bytes:
    return orjson.dumps(name)


def _parse_leniently(text: bytes, error: orjson.JSONDecodeError) -> Parsed:
    if problem := encoding_problem(text):
        raise problem
    for candidate, found in ((text, set()), (_without_commas(text), {COMMA})):
        try:
            value, constants = _with_constants(candidate.decode())
        except (ValueError, RecursionError):
            continue
        notes = found | ({NO_NUMBER} if constants else set())
        if not notes and "surrogate" not in error.msg:
            notes = {CONTROL}  # nothing else that the second parser accepts explains the error of the first
        return Parsed(value, tuple(sorted(notes)))
    raise _explained(text, error)


def _with_constants(text: str, as_object: Callable[[list[tuple[str, Any]]], Any] | None = None) -> tuple[object, int]:
    """Return the value with None for NaN and Infinity, and how often they occur."""
    constants: list[str] = []
    value = json.loads(text, strict=False, parse_constant=constants.append, object_pairs_hook=as_object)
    return value, len(constants)


def _without_commas(text: bytes) -> bytes:
    """Return `text` without commas at its end or before a closing bracket, outside strings."""
    return _COMMAS.sub(lambda found: found[1] or found[2], text)


def _explained(text: bytes, error: orjson.JSONDecodeError) -> RecordError:
    if re.match(rb"[\[\s]*\{\s*'", text):
        return RecordError("not JSON but Python, with single quotes: write each row with json.dumps")
    if re.match(r"[\[\s]*\{\s*[\u201c\u201d\u201e\u00ab\u2018\u2019]", text.decode()):
        return RecordError("not JSON: the quotes are typographic ones; write straight ones")
    if several(text):
        return RecordError("several objects on one line: write each on a line of its own")
    return _not_json(error)


def _not_json(error: orjson.JSONDecodeError) -> RecordError:
    line = f"its line {error.lineno}, " if error.lineno > 1 else ""
    return RecordError("not JSON", f": {error.msg} at {line}column {error.colno}")
