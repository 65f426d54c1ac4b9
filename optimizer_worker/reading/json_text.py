"""Parse JSON, and JSON with the usual mistakes, of which each has a note or a reason."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from itertools import islice
from typing import Any, NamedTuple

import orjson

from optimizer_worker.reading.encodings import encoding_problem
from optimizer_worker.reading.exact_json import DECODER, checked
from optimizer_worker.reading.fields import RecordError

NO_NUMBER = "NaN and Infinity are not JSON; they count as missing, like null"
COMMA = "a comma after the last item, or after a whole record, is not JSON; it was ignored"
CONTROL = "a line end or tab inside a text is not JSON, which writes \\n or \\t; it was read as it is"
IN_A_ROW = "the file is several objects in a row on one line; each is a record"
# An unclosed string reaches to the end, and nothing is tried twice, so that the time is linear in the length.
_COMMAS = re.compile(rb'("(?:[^"\\]++|\\.)*+"?+)|,(\s*+(?:[\]}]|$))', re.DOTALL)


class Parsed(NamedTuple):
    """A parsed value, and the notes about what in it is no JSON."""

    value: object
    notes: tuple[str, ...] = ()


def parse(text: bytes) -> Parsed:
    """Parse one JSON text. Raises RecordError with the reason, if not even usual mistakes explain it."""
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        return _parse_leniently(text, error)
    return Parsed(checked(value, text))


def several(data: bytes, limit: int | None = None) -> list[Any]:
    """Return the objects, at most `limit`, of a text that is several in a row, or an empty list for any other text."""
    if not data.lstrip().startswith(b"{") or not data.rstrip(b" ,\t\r\n").endswith(b"}"):
        return []
    try:
        objects = list(islice(_in_a_row(data.decode().strip()), limit))
    except (ValueError, RecursionError):
        return []
    return objects if len(objects) > 1 else []


def _in_a_row(text: str) -> Iterator[Any]:
    end = 0
    while end < len(text):
        value, end = DECODER.raw_decode(text, end)
        yield value
        while end < len(text) and text[end] in " ,\t\r\n":
            end += 1


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
        return Parsed(checked(value, candidate), tuple(sorted(notes)))
    raise _explained(text, error)


def _with_constants(text: str) -> tuple[object, int]:
    """Return the value with None for NaN and Infinity, and how often they occur."""
    constants: list[str] = []
    value = json.loads(text, strict=False, parse_constant=constants.append)
    return value, len(constants)


def _without_commas(text: bytes) -> bytes:
    """Return `text` without commas at its end or before a closing bracket, outside strings."""
    return _COMMAS.sub(lambda found: found[1] or found[2], text)


def _explained(text: bytes, error: orjson.JSONDecodeError) -> RecordError:
    if re.match(rb"[\[\s]*\{\s*'", text):
        return RecordError("not JSON but Python, with single quotes: write each row with json.dumps")
    if re.match(r"[\[\s]*\{\s*[\u201c\u201d\u201e\u00ab\u2018\u2019]", text.decode()):
        return RecordError("not JSON: the quotes are typographic ones; write straight ones")
    if several(text, limit=2):
        return RecordError("several objects on one line: write each on a line of its own")
    return _not_json(error)


def _not_json(error: orjson.JSONDecodeError) -> RecordError:
    line = f"its line {error.lineno}, " if error.lineno > 1 else ""
    return RecordError("not JSON", f": {error.msg} at {line}column {error.colno}")
