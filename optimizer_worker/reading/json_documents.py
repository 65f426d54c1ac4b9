"""Read a file that is one JSON document: an array of objects, or an object that holds such an array."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from typing import Any

import orjson

from infra.errors import BadInput
from optimizer_worker.reading.encodings import encoding_problem
from optimizer_worker.reading.fields import RecordError, listed
from optimizer_worker.reading.formats import PREFERENCES, RecordFormat, detect
from optimizer_worker.reading.json_lines import line_records
from optimizer_worker.reading.json_text import IN_A_ROW, parse, several
from optimizer_worker.reading.messages import is_message
from optimizer_worker.reading.records import Record, record_of
from optimizer_worker.reading.source_file import SourceFile

_LINE = re.compile(rb"\S[^\n]*")
COLUMNS = "holds columns, expected rows; write rows, with pandas: frame.to_json(FILE, orient='records', lines=True)"


def is_document(data: bytes) -> bool:
    """Whether the file begins as an array, is a single line, or begins with an object that does not end in its line."""
    first = _LINE.search(data)
    return (
        first is None
        or data.startswith(b"[", first.start())
        or not _is_complete(first[0].strip())
        or (_LINE.search(data, first.end()) is None)
    )


def document_records(data: bytes, file: SourceFile) -> Iterator[Record]:
    """Yield the items of the document; a file that is none is read as lines.

    Raises BadInput if the document breaks off, or holds several datasets, or columns instead of rows.
    """
    try:
        value, notes = parse(data)
    except RecordError:
        if len(data.strip().splitlines()) == 1 and (items := several(data)):
            file.note(1, IN_A_ROW, lines=0)
            return _items(items)
        _require_lines(data, file)
        return line_records(data, file)
    for note in notes:
        file.note(1, note, lines=0)
    if isinstance(value, list) and not _is_conversation(value):
        return _items(value)
    if isinstance(value, dict) and (rows := _rows(value, file)):
        return _items(rows)
    line = 1 + data[: len(data) - len(data.lstrip())].count(b"\n")
    return iter([record_of(line, value, data.decode().strip())])


def _is_complete(line: bytes) -> bool:
    try:
        parse(line)
    except RecordError:
        return False
    return True


def _require_lines(data: bytes, file: SourceFile) -> None:
    """Raise BadInput for an array that is broken, unless its first line holds a whole object or list."""
    if not data.lstrip().startswith(b"["):
        return
    try:
        orjson.loads(data)
    except orjson.JSONDecodeError as error:
        line = error.lineno
        problem: object = f"not JSON: {error.msg} at column {error.colno}"
        if error.pos >= len(data.decode(errors="replace").rstrip()):
            fix = "the array is not closed: the file may have been cut off, so upload it again"
        elif any(map(_is_complete, _first_items(data))):
            return
        else:
            line, problem = _not_utf8(data) or (line, problem)
            fix = "correct this line, or write each row as an object on a line of its own"
        place = f"{file.location}:{line}"
        raise BadInput(f"{place} is {problem}; {fix}", field=place) from error


def _not_utf8(data: bytes) -> tuple[int, RecordError] | None:
    """Return the number and the problem of the first line that is not UTF-8."""
    problems = ((number, encoding_problem(line)) for number, line in enumerate(io.BytesIO(data), 1))
    return next(((number, problem) for number, problem in problems if problem is not None), None)


def _first_items(data: bytes) -> tuple[bytes, bytes]:
    """Return the first line, and the one that begins the array."""
    first, _, rest = data.strip().partition(b"\n")
    return first, rest.lstrip().partition(b"\n")[0] if first.strip() == b"[" else first.removeprefix(b"[")


def _is_conversation(items: list[Any]) -> bool:
    """Whether the document is the list of messages of one conversation."""
    return bool(items) and all(map(is_message, items)) and detect(items[0]) is None


def _items(items: list[Any]) -> Iterator[Record]:
    return (record_of(number, item, "") for number, item in enumerate(items, 1))


def _rows(document: dict[str, Any], file: SourceFile) -> list[Any]:
    """Return the rows of an object, which are those of the list that it holds, or its values; none if it is a row."""
    if document.keys() >= PREFERENCES:
        return []
    form = detect(document)
    lists = [name for name, value in document.items() if _is_objects(value)]
    datasets = [name for name in lists if detect(document[name][0]) and not _is_of_row(name, document, form)]
    if len(datasets) > 1:
        names = "" if file.sealed else f" ({listed(datasets)})"
        raise BadInput(
            f"{file.location} holds several lists of rows{names}; upload each as a dataset of its own",
            field=file.location,
        )
    if datasets or (len(lists) == 1 and form is None):
        file.note(1, "the file is one object, whose list of objects holds the rows", lines=0)
        return list(document[(datasets or lists)[0]])
    values = list(document.values())
    if values and all(isinstance(value, dict) for value in values) and detect(values[0]):
        file.note(1, "the file is one object, whose values are the rows", lines=0)
        return values
    if not lists and values and all(isinstance(value, list | dict) and len(value) for value in values):
        raise BadInput(f"{file.location} {COLUMNS}", field=file.location)
    return []


def _is_of_row(name: str, document: dict[str, Any], form: RecordFormat | None) -> bool:
    """Whether the list `name` is a field of one record, such as its conversation, not a list of records."""
    if form is None or name not in form.uses:
        return False
    return name not in form.needs or is_message(document[name][0])


def _is_objects(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(item, dict) for item in value)
