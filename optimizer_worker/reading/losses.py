"""Count the lines that could not be read: each is reported, and too many fail the phase."""

from __future__ import annotations

from collections import Counter

from contracts.notices import Notice
from infra.errors import BadInput
from optimizer_worker.quarantine import Quarantined
from optimizer_worker.reading.fields import RecordError
from optimizer_worker.reading.notes import Notes
from optimizer_worker.reading.records import Record, shown
from optimizer_worker.reading.source_file import SourceFile

UNREADABLE = "unreadable"
MAX_KEPT_CHARACTERS = 500
"""Maximum characters of an unreadable line that are kept in the quarantine."""


class Losses:
    """The unreadable lines of a dataset, by the kind of their reason."""

    def __init__(self, *, sealed: bool) -> None:
        self.quarantine: list[Quarantined] = []
        self._kinds = Notes(UNREADABLE, sealed=sealed)
        self._in_file: Counter[str] = Counter()
        self._first: dict[str, tuple[int, str]] = {}
        """Line and reason of the first unreadable line of each kind in the present file."""

    def add(self, record: Record, problem: RecordError, file: SourceFile) -> None:
        """Quarantine an unreadable line, of which nothing is kept if the file is sealed."""
        reason = problem.kind if file.sealed else str(problem)
        self._in_file[problem.kind] += 1
        self._first.setdefault(problem.kind, (record.line, reason))
        self._kinds.add(problem.kind, f"{file.location}:{record.line}")
        content = None if file.sealed else (record.raw or shown(record.fields))[:MAX_KEPT_CHARACTERS]
        self.quarantine.append(
            Quarantined(rule=UNREADABLE, reason=reason, file=file.location, line=record.line, content=content)
        )

    def end_file(self, file: SourceFile, rows: int) -> None:
        """Raise BadInput if more lines of the file were lost than the `rows` that were read."""
        lost = self._in_file.total()
        if lost > rows:
            kind, lines = self._in_file.most_common(1)[0]
            line, reason = self._first[kind]
            raise BadInput(
                f"{file.location}: {lost} of {lost + rows} lines could not be read, more than half of the file; the "
                f"most frequent reason ({lines} lines, the first is line {line}) is: {reason}; correct these lines, or "
                "remove them, and upload the file again",
                field=f"{file.location}:{line}",
            )
        self._in_file.clear()
        self._first.clear()

    def notices(self, name: str, rows: int) -> list[Notice]:
        """Return a notice for each kind of reason, of a dataset of which `rows` lines were read."""
        total = rows + len(self.quarantine)
        return self._kinds.notices(
            lambda lines, kind: f"{lines} of {total} lines of {name} could not be read and were set aside: {kind}"
        )
