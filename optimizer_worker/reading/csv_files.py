"""Read CSV files: any of four delimiters, quoted line ends, and a header with the names of the fields."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from typing import NamedTuple

from infra.errors import BadInput
from optimizer_worker.reading.encodings import encoding_problem
from optimizer_worker.reading.fields import RecordError, display_name, listed
from optimizer_worker.reading.formats import KNOWN_FORMATS, detect
from optimizer_worker.reading.records import Record
from optimizer_worker.reading.source_file import SourceFile

MAX_FIELD_CHARACTERS = 1 << 30
"""Maximum characters of one CSV field; the default of the standard library is too low for a long answer."""
MISQUOTED = "not CSV; a double quote inside a quoted text must be written twice"
NAMED_DELIMITER = "the delimiter was taken from the line sep="
_DELIMITERS = ",;\t|"
_DELIMITER_LINE = re.compile(r'^"?sep=(.)"?\1*$', re.IGNORECASE)


class _Table(NamedTuple):
    lines: list[str]
    header: list[str]
    delimiter: str
    start: int
    """Index of the first line below the header."""


def csv_records(data: bytes, file: SourceFile) -> Iterator[Record]:
    """Yield the rows below the header. Raises BadInput if the header has no names of a known format."""
    csv.field_size_limit(MAX_FIELD_CHARACTERS)
    lines = _lines(data)
    table = _table(lines, file) if lines else None
    return iter(()) if table is None else _rows(table)


def _lines(data: bytes) -> list[str]:
    """Return the lines with their line ends; invalid UTF-8 bytes become surrogates, so that only their row is lost."""
    # Not str.splitlines, which also breaks lines inside a field, for example at U+2028.
    return list(io.StringIO(data.decode("utf-8", "surrogateescape"), newline=""))


def _table(lines: list[str], file: SourceFile) -> _Table | None:
    start = next((number for number, line in enumerate(lines) if line.strip()), None)
    if start is None:
        return None
    delimiters = _DELIMITERS
    if named := _DELIMITER_LINE.match(lines[start].rstrip("\r\n")):
        file.note(start + 1, NAMED_DELIMITER)
        delimiters, start = named[1], start + 1
    if start == len(lines):
        return None
    header, delimiter = _header(lines[start], delimiters)
    _require_names(header, lines[start], f"{file.location}:{start + 1}", file.sealed)
    return _Table(lines, header, delimiter, start + 1)


def _header(line: str, delimiters: str) -> tuple[list[str], str]:
    """Return the names, and the delimiter that makes names of a known format, or else the most frequent one."""
    split = {sign: next(csv.reader([line], delimiter=sign), []) for sign in delimiters}
    known = [sign for sign in delimiters if detect(_named(split[sign]))]
    delimiter = max(known or delimiters, key=lambda sign: len(split[sign]))
    names = [display_name(name) for name in split[delimiter]]
    return [name or f"column {number}" for number, name in enumerate(names, 1)], delimiter


def _named(names: list[str]) -> dict[str, str]:
    return {display_name(name): "" for name in names}


def _require_names(header: list[str], line: str, place: str, sealed: bool) -> None:
    if (problem := encoding_problem(line.encode("utf-8", "surrogateescape"))) is not None:
        raise BadInput(f"{place} is {problem}", field=place)
    if repeated := next((name for name in header if header.count(name) > 1), None):
        shown = "a column" if sealed else f"the column {listed([repeated])}"
        raise BadInput(f"{place} names {shown} twice; give each column a name of its own", field=place)
    if detect(dict.fromkeys(header, "")) is None:
        shown = "" if sealed else f" ({listed(header)})"
        raise BadInput(
            f"{place} is no header of a known format{shown}; if it is a row, put a line with the names of the columns "
            f"before it, for example text,category or prompt,response; known formats are {KNOWN_FORMATS}",
            field=place,
        )


def _rows(table: _Table) -> Iterator[Record]:
    """Yield the rows; after an unreadable row, reading continues at the next line."""
    lines, start = table.lines, table.start
    while start < len(lines):
        # By index, because a slice would copy the rest of the file for every unreadable row.
        rest = map(lines.__getitem__, range(start, len(lines)))
        reader = csv.reader(rest, delimiter=table.delimiter, strict=True)
        begin = start
        try:
            for values in reader:
                line, begin = begin, start + reader.line_num
                if any(values):
                    yield _row(line + 1, table.header, values, "".join(lines[line:begin]))
        except csv.Error as error:
            yield Record(begin + 1, None, _printable(lines[begin]).rstrip(), RecordError(MISQUOTED, f": {error}"))
        else:
            return
        start = begin + 1


def _row(line: int, header: list[str], values: list[str], raw: str) -> Record:
    if (printable := _printable(raw)) != raw:
        return Record(line, None, printable.rstrip(), encoding_problem(raw.encode("utf-8", "surrogateescape")))
    while len(values) > len(header) and not values[-1]:
        values.pop()
    if len(values) != len(header):
        hint = "; a text with a delimiter must stand in double quotes" if len(values) > len(header) else ""
        problem = RecordError(f"expected {len(header)} fields{hint}", f", got {len(values)}")
        return Record(line, None, raw.rstrip(), problem)
    return Record(line, dict(zip(header, values, strict=True)), raw.rstrip())


def _printable(text: str) -> str:
    """Return `text` with replacement characters for surrogates, which cannot be written to a file."""
    return text if text.isascii() else text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
