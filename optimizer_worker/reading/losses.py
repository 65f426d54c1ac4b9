"""Count the lines that are no rows: each is reported, and too many that could not be read fail the phase."""

from __future__ import annotations

from collections import Counter

from contracts.notices import Notice
from infra.errors import BadInput
from optimizer_worker.quarantine import Quarantined
from optimizer_worker.reading.fields import NotLearnt, RecordError
from optimizer_worker.reading.notes import Notes
from optimizer_worker.reading.records import Record, shown
from optimizer_worker.reading.source_file import SourceFile

UNREADABLE = "unreadable"
NOT_LEARNT = "not_learnt"
"""The rule of lines that are marked as not to be learnt."""
MAX_KEPT_CHARACTERS = 500
"""Maximum characters of an unreadable line that are kept in the quarantine."""


class Losses:
    """The lines of a dataset that are no rows, by the kind of their reason."""

    def __init__(self, *, sealed: bool) -> None:
        self.quarantine: list[Quarantined] = []
        self._kinds = Notes(UNREADABLE, sealed=sealed)
        self._excluded = Notes(NOT_LEARNT, sealed=sealed)
        self._in_file: Counter[str] = Counter()
        self._excluded_in_file = 0
        self._first: dict[str, tuple[int, str]] = {}
        """Line and reason of the first unreadable line of each kind in the present file."""

    def add(self, record: Record, problem: RecordError, file: SourceFile) -> None:
        """Quarantine a line, of which nothing is kept if the file is sealed."""
        reason, place = problem.kind if file.sealed else str(problem), f"{file.location}:{record.line}"
        rule = NOT_LEARNT if isinstance(problem, NotLearnt) else UNREADABLE
        if rule == NOT_LEARNT:
            self._excluded.add(problem.kind, place)
            self._excluded_in_file += 1
        else:
            self._kinds.add(problem.kind, place)
            self._in_file[problem.kind] += 1
            self._first.setdefault(problem.kind, (record.line, reason))
        content = None if file.sealed else (record.raw or shown(record.fields))[:MAX_KEPT_CHARACTERS]
        self.quarantine.append(
            Quarantined(rule=rule, reason=reason, file=file.location, line=record.line, content=content)
        )

    def end_file(self, file: SourceFile, rows: int) -> None:
        """Raise BadInput if more lines of the file were lost than were read, `rows` of them as rows."""
        lost, rows = self._in_file.total(), rows + self._excluded_in_file
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
        self._excluded_in_file = 0
        self._first.clear()

    def notices(self, name: str, rows: int) -> list[Notice]:
        """Return a notice for each kind of reason, of a dataset of which `rows` lines were read."""
        total = rows + len(self.quarantine)
        unreadable = self._kinds.notices(
            lambda lines, kind: f"{lines} of {total} lines of {name} could not be read and were set aside: {kind}"
        )
        return unreadable + self._excluded.notices(
            lambda lines, kind: f"{lines} of {total} lines of {name} are not to be learnt and were set aside: {kind}"
        )

    @property
    def excluded(self) -> str:
        """The end of an error text about a dataset without rows, if lines were set aside as not to be learnt."""
        kinds = self._excluded.lines
        if not kinds:
            return ""
        return f"; {kinds.total()} lines are not to be learnt, most of them because of {kinds.most_common(1)[0][0]}"
