"""Read an uploaded folder into rows; a line that cannot be read is quarantined, not dropped."""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

from contracts.artifacts import MANIFEST
from contracts.notices import Notice, notice
from contracts.rows import Row, Source
from infra.errors import BadInput
from optimizer_worker.quarantine import Quarantined
from optimizer_worker.reading.containers import JSON_ENDINGS, records
from optimizer_worker.reading.fields import Fields, RecordError, listed
from optimizer_worker.reading.formats import (
    KNOWN_FORMATS,
    PREFERENCES,
    RecordFormat,
    detect,
    folded,
    most_specific,
    unused_fields,
)
from optimizer_worker.reading.losses import Losses
from optimizer_worker.reading.notes import Notes
from optimizer_worker.reading.records import Record
from optimizer_worker.reading.source_file import READ_AS, SourceFile
from optimizer_worker.spec import REQUEST_FIELDS, SEALED

UNUSED = "unused_fields"
"""The rule of the notice about fields that no format uses."""
MAX_UNUSED = 20
"""Maximum fields that the notice names."""
DOCUMENTS = frozenset({"readme", "license", "licence"})
"""Names, without their endings, of files that come with data and hold none."""
DATA_ENDINGS = frozenset({*JSON_ENDINGS, ".csv", ".tsv"})
"""Endings of files that hold rows, whatever their name is."""
SAMPLE = 100
"""Records at the beginning of a file by which its format is recognised."""
OTHER_CASE = "the names of fields were read in lower case"


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
    """Read all rows of a dataset, with ids `<name>/<file>:<line>`.

    Raises BadInput if there are none, if more than half of a file's lines cannot be read, or if a file has another
    encoding or no known format.
    """
    reader = _Reader(name)
    with _paused_collector():
        for path in _files(folder):
            reader.read(path, f"{name}/{path.relative_to(folder)}")
    if not reader.result.rows:
        raise BadInput(
            f"dataset {dataset_id} ({name}) holds no rows; expected JSON lines, a JSON array or CSV with a header, in "
            f"one of the formats {KNOWN_FORMATS}{reader.excluded}",
            field=REQUEST_FIELDS[name],
        )
    return reader.finish()


@contextmanager
def _paused_collector() -> Iterator[None]:
    """Pause the collector of cycles, which would look at every row again and again; rows are in no cycle."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _files(folder: Path) -> list[Path]:
    """Return the files of an upload, or only the training rows of an optimised dataset."""
    if (folder / "train.jsonl").is_file() and (folder / "ledger.jsonl").is_file():
        return [folder / "train.jsonl"]
    paths = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return [path for path in paths if path.name != MANIFEST and not path.name.startswith(".")]


class _Reader:
    """Reads the files of one dataset one after the other."""

    def __init__(self, name: str) -> None:
        self.result = ReadResult()
        self._name = name
        self._sealed = name == SEALED
        self._losses = Losses(sealed=self._sealed)
        self._notes = Notes(READ_AS, sealed=self._sealed)
        self._unused: Counter[str] = Counter()
        self._skipped: list[str] = []

    def read(self, path: Path, location: str) -> None:
        file = SourceFile(path, location, self._sealed, self._notes)
        if path.stem.lower() in DOCUMENTS and path.suffix.lower() not in DATA_ENDINGS:
            self._notes.add("a file about the data was not read", location, 0)
            self._skipped.append(location)
            return
        form, items = _detect_format(records(file), file)
        if form is not None:
            self.result.formats[location] = form.name
        before = len(self.result.rows)
        for record in items:
            try:
                self.result.rows.append(self._row(record, form, file))
            except RecordError as problem:
                self._losses.add(record, problem, file)
        self._losses.end_file(file, len(self.result.rows) - before)

    @property
    def excluded(self) -> str:
        """The end of an error text that names files that were not read and counts lines that are not to be learnt."""
        skipped = [
            f"; {location} was not read, because its name is that of a file about data" for location in self._skipped
        ]
        return "".join(skipped) + self._losses.excluded

    def finish(self) -> ReadResult:
        result = self.result
        result.unreadable = self._losses.quarantine
        result.notices += self._losses.notices(self._name, len(result.rows))
        result.notices += self._notes.notices(lambda _, text: f"{self._name}: {text}")
        if self._unused and not self._sealed:
            names = listed(f"{name} ({rows} rows)" for name, rows in self._unused.most_common(MAX_UNUSED))
            rows = max(self._unused.values())
            result.notices.append(notice(UNUSED, rows, f"fields of {self._name} that are not used: {names}"))
        return result

    def _row(self, record: Record, form: RecordFormat | None, file: SourceFile) -> Row:
        """Return the row of a record. Raises RecordError if there is none."""
        if record.fields is None or form is None:
            raise record.problem or RecordError("has no fields of a known format")
        fields = _fields_of(record.fields, form)
        if fields is not record.fields:
            file.note(record.line, OTHER_CASE)
        example = form.convert(fields)
        self._unused.update(unused_fields(fields, form))
        self._unused.update(example.unused)
        for text in example.notes:
            file.note(record.line, text)
        row_id = f"{file.location}:{record.line}"
        return Row(
            id=row_id,
            turns=example.turns,
            text=example.text,
            slice=example.slice,
            tools=example.tools,
            weight=example.weight,
            source=Source(file=file.location, line=record.line),
        )


def _detect_format(items: Iterator[Record], file: SourceFile) -> tuple[RecordFormat | None, Iterable[Record]]:
    """Return the format of most of the first records, and all records. Raises BadInput if none has a known format."""
    seen: list[Record] = []
    forms: Counter[RecordFormat] = Counter()
    unknown: Record | None = None
    for record in items:
        seen.append(record)
        if record.fields is None:
            continue
        if form := detect(record.fields):
            forms[form] += 1
        else:
            unknown = unknown or record
        if forms and len(seen) >= SAMPLE:
            break
    if not forms and unknown is not None and unknown.fields is not None:
        raise _unknown_format(unknown.fields, f"{file.location}:{unknown.line}", file.sealed)
    return most_specific(forms), chain(seen, items)


def _unknown_format(fields: Fields, place: str, sealed: bool) -> BadInput:
    if fields.keys() >= PREFERENCES:
        problem = (
            "is a preference pair, with the fields chosen and rejected; Treadle learns from answers, so give the "
            "chosen answer as the response of its prompt"
        )
    else:
        names = "fields" if sealed else f"the fields {listed(fields)},"
        problem = f"has {names} of no known format"
    return BadInput(f"{place} {problem}; known are {KNOWN_FORMATS}", field=place)


def _fields_of(fields: Fields, form: RecordFormat) -> Fields:
    """Return the fields, if need be by their names in lower case. Raises RecordError if one is missing."""
    if all(name in fields for name in form.needs):
        return fields
    lower = {folded(name): value for name, value in fields.items()}
    if all(name in lower for name in form.needs):
        return lower
    raise RecordError(f"expected the fields of {form}", f", got {listed(fields)}")
