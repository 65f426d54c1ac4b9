"""An uploaded folder to canonical rows. A line that cannot be read is quarantined; nothing is lost in silence."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

from pydantic import ValidationError

from contracts.artifacts import MANIFEST
from contracts.rows import Row
from infra.errors import BadInput
from optimizer_worker.quarantine import Quarantined
from optimizer_worker.reading.containers import Record, records
from optimizer_worker.reading.fields import Fields, Unfit
from optimizer_worker.reading.formats import FORMATS, Format, detect
from optimizer_worker.spec import REQUEST_FIELDS

UNREADABLE = "unreadable"
SHOWN = 500
"""Characters of an unreadable line that the quarantine keeps."""
SEALED = "test"
"""The dataset of which nothing but numbers may leave: its unreadable lines are counted, not shown."""


@dataclass(slots=True)
class Reading:
    """What a dataset held."""

    rows: list[Row] = field(default_factory=list)
    unreadable: list[Quarantined] = field(default_factory=list)
    formats: dict[str, str] = field(default_factory=dict)
    """File to the name of the format it was read as."""


def read_dataset(folder: Path, name: str, dataset_id: str) -> Reading:
    """All rows of a dataset, with ids `<name>/<file>:<line>`. Raises BadInput where there is not one."""
    reading = Reading()
    for path in _files(folder):
        _read_file(path, f"{name}/{path.relative_to(folder)}", name == SEALED, reading)
    if not reading.rows:
        why = _why_empty(reading)
        raise BadInput(f"dataset {dataset_id} ({name}) holds no rows; {why}", field=REQUEST_FIELDS[name])
    return reading


def _why_empty(reading: Reading) -> str:
    if reading.unreadable:
        first = reading.unreadable[0]
        return f"{first.file}:{first.line}: {first.reason}"
    return f"expected JSON lines, a JSON array or CSV with a header, with the fields of {_known_formats()}"


def _known_formats() -> str:
    return "; ".join(str(form) for form in FORMATS)


def _files(folder: Path) -> list[Path]:
    """The files of an upload; of an optimised dataset, its training rows alone."""
    if (folder / "train.jsonl").is_file() and (folder / "ledger.jsonl").is_file():
        return [folder / "train.jsonl"]
    found = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return [path for path in found if path.name != MANIFEST and not path.name.startswith(".")]


def _read_file(path: Path, where: str, sealed: bool, reading: Reading) -> None:
    form, found = _detected(records(path, where), where)
    if form is not None:
        reading.formats[where] = form.name
    for record in found:
        row = _row(record, form, where)
        if isinstance(row, Row):
            reading.rows.append(row)
        else:
            reading.unreadable.append(_unreadable(record, row, where, sealed))


def _detected(found: Iterator[Record], where: str) -> tuple[Format | None, Iterable[Record]]:
    """The format of the first record that has one, and all records. Raises BadInput where none has."""
    seen: list[Record] = []
    readable: Record | None = None
    for record in found:
        seen.append(record)
        if record.fields is None:
            continue
        readable = readable or record
        if form := detect(record.fields):
            return form, chain(seen, found)
    if readable is not None and readable.fields is not None:
        place, names = f"{where}:{readable.line}", ", ".join(readable.fields) or "none"
        raise BadInput(f"{place} has the fields {names}, of no known format; known are {_known_formats()}", field=place)
    return None, seen


def _row(record: Record, form: Format | None, where: str) -> Row | str:
    """The row, or why there is none."""
    if record.fields is None or form is None:
        return record.problem
    if not form.describes(record.fields):
        return f"expected the fields of {form}, got {', '.join(record.fields) or 'none'}"
    return _converted(record.fields, form, f"{where}:{record.line}")


def _converted(fields: Fields, form: Format, row_id: str) -> Row | str:
    try:
        example = form.convert(fields)
        return Row(id=row_id, turns=example.turns, text=example.text, slice=example.slice)
    except ValidationError:
        return "holds text that is not valid Unicode"
    except Unfit as error:
        return str(error)


def _unreadable(record: Record, reason: str, where: str, sealed: bool) -> Quarantined:
    content = None if sealed else (record.raw or str(record.fields))[:SHOWN]
    return Quarantined(
        rule=UNREADABLE, reason="not shown" if sealed else reason, file=where, line=record.line, content=content
    )
