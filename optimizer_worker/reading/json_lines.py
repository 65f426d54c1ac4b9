"""Read JSON lines, and what is almost JSON lines: objects over several lines, or with commas and brackets."""

from __future__ import annotations

import codecs
import io
from collections import deque
from collections.abc import Iterator

import orjson

from optimizer_worker.reading.exact_json import checked
from optimizer_worker.reading.fields import RecordError
from optimizer_worker.reading.json_text import parse
from optimizer_worker.reading.records import Record, record_of
from optimizer_worker.reading.source_file import SourceFile

COMMENTS = (b"//", b"#")
COMMENT = "lines that begin with // or # are not JSON; they count as comments"
BRACKETS = "the brackets of an array around lines of JSON were ignored"
SPREAD = "an object over several lines is one record, which has the number of its first line"
_BRACKETS = frozenset({b"[", b"]", b"],", b"];"})

Line = tuple[int, bytes]


def line_records(data: bytes, file: SourceFile) -> Iterator[Record]:
    """Yield a record for each object; its number is that of its first line."""
    return _Lines(data, file).records()


class _Lines:
    """The lines of a file; lines that were looked at in vain are read again."""

    def __init__(self, data: bytes, file: SourceFile) -> None:
        # A carriage return in a text is written \\r in JSON, so each one outside ends a line.
        lines = data.replace(b"\r", b"\n") if b"\n" not in data else data
        self._numbered = enumerate(io.BytesIO(lines), 1)
        self._again: deque[Line] = deque()
        self._file = file
        self._start: bytes | None = None
        """How the first object over several lines begins; others that begin so end it."""

    def records(self) -> Iterator[Record]:
        for number, line in self._lines():
            text = line.strip()
            if not text:
                continue
            try:
                value = orjson.loads(text)
            except orjson.JSONDecodeError:
                yield from self._odd_line(number, line)
                continue
            yield record_of(number, checked(value, text), text.decode())

    def _lines(self) -> Iterator[Line]:
        while True:
            if self._again:
                yield self._again.popleft()
            elif (item := next(self._numbered, None)) is not None:
                yield item
            else:
                return

    def _odd_line(self, number: int, line: bytes) -> Iterator[Record]:
        """Yield the record of a line that is not JSON by itself, if it has one."""
        text = line.strip().removeprefix(codecs.BOM_UTF8)
        if text in _BRACKETS:
            self._file.note(number, BRACKETS)
        elif text.startswith(COMMENTS):
            self._file.note(number, COMMENT)
        elif text:
            yield self._repaired(number, text) or self._block(number, line) or _unreadable(number, text)

    def _repaired(self, number: int, text: bytes) -> Record | None:
        bare = text
        if text.startswith(b"[{") != text.endswith((b"}]", b"}],")):
            bare = text.removeprefix(b"[") if text.startswith(b"[") else text.rstrip(b",").removesuffix(b"]")
        try:
            value, notes = parse(bare)
        except RecordError:
            return None
        for note in (*notes, *([BRACKETS] if bare != text else [])):
            self._file.note(number, note)
        return record_of(number, value, text.decode())

    def _block(self, number: int, line: bytes) -> Record | None:
        """Return the record of an object that begins in this line and ends in a later one, read or not."""
        if self._start is None and line.lstrip().startswith(b"{"):
            self._start = line[: line.index(b"{") + 1]
        if self._start is None or not line.startswith(self._start):
            return None
        rest = list(self._rest_of_block(self._start))
        text = b"".join([line, *(further for _, further in rest)]).strip()
        try:
            value, notes = parse(text)
        except RecordError as error:
            if rest and all(_continues(further) for _, further in rest):
                return Record(number, None, text.decode(errors="replace"), error)
            self._again.extendleft(reversed(rest))
            return None
        for note in (SPREAD, *notes):
            self._file.note(number, note)
        return record_of(number, value, text.decode())

    def _rest_of_block(self, start: bytes) -> Iterator[Line]:
        """Yield the lines before the next that begins with `start`."""
        for number, line in self._lines():
            if line.startswith(start):
                self._again.appendleft((number, line))
                return
            yield number, line


def _continues(line: bytes) -> bool:
    """Whether a line looks like the inside or the end of an object, not like a line by itself."""
    return not line.strip() or line[:1] in (b" ", b"\t", b'"', b"}", b"]")


def _unreadable(number: int, text: bytes) -> Record:
    raw = text.decode(errors="replace")
    try:
        parse(text)
    except RecordError as error:
        return Record(number, None, raw, error)
    raise AssertionError("a line that can be parsed is not unreadable")
