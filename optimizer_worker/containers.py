"""Files as numbered records: JSON lines, a JSON array, or CSV, told apart by how they begin."""

from __future__ import annotations

import codecs
import csv
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import orjson

from infra.errors import BadInput
from optimizer_worker.fields import Fields, kind

LONGEST_FIELD = 1 << 30
"""Characters of one CSV field; the standard library's own limit is lower than a long answer."""


class Record(NamedTuple):
    """One line of a file, or one item of an array; where it cannot be read, `problem` says why."""

    line: int
    fields: Fields | None
    raw: str
    problem: str = ""


def records(path: Path, where: str) -> Iterator[Record]:
    """The records of a file. Raises BadInput, naming `where`, where the file as a whole cannot be read."""
    with path.open("rb") as file:
        start = file.read(4096)
    if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise BadInput(f"{where} is UTF-16; expected UTF-8", field=where)
    match start.removeprefix(codecs.BOM_UTF8).lstrip()[:1]:
        case b"{":
            return _json_lines(path)
        case b"[":
            return _json_array(path, where)
        case _:
            return _csv_rows(path)


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


def _json_array(path: Path, where: str) -> Iterator[Record]:
    try:
        items = orjson.loads(path.read_bytes().removeprefix(codecs.BOM_UTF8))
    except orjson.JSONDecodeError as error:
        place = f"{where}:{error.lineno}"
        raise BadInput(f"{place} is not JSON: {error.msg} at column {error.colno}", field=place) from error
    for number, item in enumerate(items, 1):
        yield _checked(number, item, "" if isinstance(item, dict) else repr(item))


def _checked(number: int, value: object, raw: str) -> Record:
    if isinstance(value, dict):
        return Record(number, value, raw)
    return Record(number, None, raw, f"expected an object, got {kind(value)}")


def _csv_rows(path: Path) -> Iterator[Record]:
    """Rows under a header. After a row that cannot be read, reading goes on at the next line."""
    csv.field_size_limit(LONGEST_FIELD)
    lines = path.read_bytes().removeprefix(codecs.BOM_UTF8).decode("utf-8", "surrogateescape").splitlines(keepends=True)
    if not lines:
        return
    delimiter = max(",;\t", key=lines[0].count)
    header = [name.strip() for name in next(csv.reader(lines[:1], delimiter=delimiter))]
    start = 1
    while start < len(lines):
        reader = csv.reader(lines[start:], delimiter=delimiter, strict=True)
        begin = start
        try:
            for values in reader:
                line, begin = begin, start + reader.line_num
                if values:
                    yield _csv_row(line + 1, header, values, "".join(lines[line:begin]))
        except csv.Error as error:
            yield Record(begin + 1, None, lines[begin].rstrip(), f"not CSV: {error}")
        else:
            return
        start = begin + 1


def _csv_row(line: int, header: list[str], values: list[str], raw: str) -> Record:
    if not raw.isascii() and any("\udc80" <= c <= "\udcff" for c in raw):
        shown = raw.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
        return Record(line, None, shown.rstrip(), "not UTF-8")
    if len(values) != len(header):
        return Record(line, None, raw.rstrip(), f"expected {len(header)} fields, got {len(values)}")
    return Record(line, dict(zip(header, values, strict=True)), raw.rstrip())
