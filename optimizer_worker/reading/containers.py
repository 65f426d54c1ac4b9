"""Read files as numbered records: JSON lines, a JSON array or CSV, recognised by their first character."""

from __future__ import annotations

import codecs
import csv
import io
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import orjson

from infra.errors import BadInput
from optimizer_worker.reading.fields import Fields, kind

MAX_FIELD_CHARACTERS = 1 << 30
"""Maximum characters of one CSV field; the default of the standard library is too low for a long answer."""


class Record(NamedTuple):
    """One line of a file, or one item of an array; if it cannot be read, `problem` is the reason."""

    line: int
    fields: Fields | None
    raw: str
    problem: str = ""


def records(path: Path, location: str) -> Iterator[Record]:
    """Yield the records of a file. Raises BadInput, with `location` as its field, if the whole file cannot be read."""
    with path.open("rb") as file:
        start = file.read(4096)
    if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise BadInput(f"{location} is UTF-16; expected UTF-8", field=location)
    match start.removeprefix(codecs.BOM_UTF8).lstrip()[:1]:
        case b"{":
            return _json_lines(path)
        case b"[":
            return _json_array(path, location)
        case _:
            return _csv_rows(path, location)


def _json_lines(path: Path) -> Iterator[Record]:
    with path.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            text = line.removeprefix(codecs.BOM_UTF8).strip()
            if text:
                yield _json_line(number, text)


def _json_line(number: int, line: bytes) -> Record:
    raw = line.decode("utf-8", "replace")
    try:
        value = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        return Record(number, None, raw, f"not JSON: {error.msg} at column {error.colno}")
    return _checked(number, value, raw)


def _json_array(path: Path, location: str) -> Iterator[Record]:
    try:
        items = orjson.loads(path.read_bytes().removeprefix(codecs.BOM_UTF8))
    except orjson.JSONDecodeError as error:
        place = f"{location}:{error.lineno}"
        raise BadInput(f"{place} is not JSON: {error.msg} at column {error.colno}", field=place) from error
    for number, item in enumerate(items, 1):
        yield _checked(number, item, "" if isinstance(item, dict) else repr(item))


def _checked(number: int, value: object, raw: str) -> Record:
    if isinstance(value, dict):
        return Record(number, value, raw)
    return Record(number, None, raw, f"expected an object, got {kind(value)}")


def _csv_rows(path: Path, location: str) -> Iterator[Record]:
    """Yield the rows below the header; after an unreadable row, reading continues at the next line."""
    csv.field_size_limit(MAX_FIELD_CHARACTERS)
    lines = _csv_lines(path)
    if not lines:
        return
    if _printable(lines[0]) != lines[0]:
        raise BadInput(f"{location}:1 is not UTF-8; expected UTF-8", field=f"{location}:1")
    delimiter = max(",;\t", key=lines[0].count)
    header = [name.strip() for name in next(csv.reader(lines[:1], delimiter=delimiter))]
    start = 1
    while start < len(lines):
        # By index, because a slice would copy the rest of the file for every unreadable row.
        rest = map(lines.__getitem__, range(start, len(lines)))
        reader = csv.reader(rest, delimiter=delimiter, strict=True)
        begin = start
        try:
            for values in reader:
                line, begin = begin, start + reader.line_num
                if values:
                    yield _csv_row(line + 1, header, values, "".join(lines[line:begin]))
        except csv.Error as error:
            yield Record(begin + 1, None, _printable(lines[begin]).rstrip(), f"not CSV: {error}")
        else:
            return
        start = begin + 1


def _csv_lines(path: Path) -> list[str]:
    """Return the lines with their line ends; invalid UTF-8 bytes become surrogates, so that only their row is lost."""
    text = path.read_bytes().removeprefix(codecs.BOM_UTF8).decode("utf-8", "surrogateescape")
    # Not str.splitlines, which also breaks lines inside a field, for example at U+2028.
    return list(io.StringIO(text, newline=""))


def _printable(text: str) -> str:
    """Return `text` with replacement characters for surrogates, which cannot be written to a file."""
    return text if text.isascii() else text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _csv_row(line: int, header: list[str], values: list[str], raw: str) -> Record:
    if (printable := _printable(raw)) != raw:
        return Record(line, None, printable.rstrip(), "not UTF-8")
    if len(values) != len(header):
        return Record(line, None, raw.rstrip(), f"expected {len(header)} fields, got {len(values)}")
    return Record(line, dict(zip(header, values, strict=True)), raw.rstrip())
