"""Read an uploaded folder into rows; a line that cannot be read is quarantined, not dropped."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

from pydantic import ValidationError

from contracts.artifacts import MANIFEST
from contracts.notices import Notice
from contracts.rows import Row
from infra.errors import BadInput
from optimizer_worker.quarantine import Quarantined
from optimizer_worker.reading.containers import Record, records
from optimizer_worker.reading.fields import Fields, RecordError
from optimizer_worker.reading.formats import FORMATS, RecordFormat, detect
from optimizer_worker.spec import REQUEST_FIELDS

UNREADABLE = "unreadable"
MAX_KEPT_CHARACTERS = 500
"""Maximum characters of an unreadable line that are kept in the quarantine."""
SEALED = "test"
"""The dataset of which only numbers may be reported: its unreadable lines are counted, not shown."""


@dataclass(slots=True)
class ReadResult:
    """The content of a dataset."""

    rows: list[Row] = field(default_factory=list)
    unreadable: list[Quarantined] = field(default_factory=list)
    formats: dict[str, str] = field(default_factory=dict)
    """Name of the format of each file."""
    notices: list[Notice] = field(default_factory=list)
    """How the files were read, and which lines were not."""


def read_dataset(folder: Path, name: str, dataset_id: str) -> ReadResult:
    """Read all rows of a dataset, with ids `<name>/<file>:<line>`. Raises BadInput if there are none."""
    reading = ReadResult()
    for path in _files(folder):
        _read_file(path, f"{name}/{path.relative_to(folder)}", name == SEALED, reading)
    if not reading.rows:
        why = _why_empty(reading)
        raise BadInput(f"dataset {dataset_id} ({name}) holds no rows; {why}", field=REQUEST_FIELDS[name])
    return reading


def _why_empty(reading: ReadResult) -> str:
    if reading.unreadable:
        first = reading.unreadable[0]
        return f"{first.file}:{first.line}: {first.reason}"
    return f"expected JSON lines, a JSON array or CSV with a header, with the fields of {_known_formats()}"


def _known_formats() -> str:
    return "; ".join(str(record_format) for record_format in FORMATS)


def _files(folder: Path) -> list[Path]:
    """Return the files of an upload, or only the training rows of an optimised dataset."""
    if (folder / "train.jsonl").is_file() and (folder / "ledger.jsonl").is_file():
        return [folder / "train.jsonl"]
    paths = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return [path for path in paths if path.name != MANIFEST and not path.name.startswith(".")]


def _read_file(path: Path, location: str, sealed: bool, reading: ReadResult) -> None:
    record_format, items = _detect_format(records(path, location), location)
    if record_format is not None:
        reading.formats[location] = record_format.name
    for record in items:
        row = _row(record, record_format, location)
        if isinstance(row, Row):
            reading.rows.append(row)
        else:
            reading.unreadable.append(_unreadable(record, row, location, sealed))


def _detect_format(items: Iterator[Record], location: str) -> tuple[RecordFormat | None, Iterable[Record]]:
    """Return the format of the first record that has one, and all records. Raises BadInput if none has."""
    seen: list[Record] = []
    readable: Record | None = None
    for record in items:
        seen.append(record)
        if record.fields is None:
            continue
        readable = readable or record
        if record_format := detect(record.fields):
            return record_format, chain(seen, items)
    if readable is not None and readable.fields is not None:
        place, names = f"{location}:{readable.line}", ", ".join(readable.fields) or "none"
        raise BadInput(f"{place} has the fields {names}, of no known format; known are {_known_formats()}", field=place)
    return None, seen


def _row(record: Record, record_format: RecordFormat | None, location: str) -> Row | str:
    """Return the row, or the reason why there is none."""
    if record.fields is None or record_format is None:
        return record.problem
    if not record_format.describes(record.fields):
        return f"expected the fields of {record_format}, got {', '.join(record.fields) or 'none'}"
    return _convert(record.fields, record_format, f"{location}:{record.line}")


def _convert(fields: Fields, record_format: RecordFormat, row_id: str) -> Row | str:
    try:
        example = record_format.convert(fields)
        return Row(id=row_id, turns=example.turns, text=example.text, slice=example.slice)
    except ValidationError:
        return "holds text that is not valid Unicode"
    except RecordError as error:
        return str(error)


def _unreadable(record: Record, reason: str, location: str, sealed: bool) -> Quarantined:
    content = None if sealed else (record.raw or str(record.fields))[:MAX_KEPT_CHARACTERS]
    return Quarantined(
        rule=UNREADABLE, reason="not shown" if sealed else reason, file=location, line=record.line, content=content
    )
