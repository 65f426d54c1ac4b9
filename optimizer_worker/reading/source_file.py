"""One file of an upload, and what is noted while it is read."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from optimizer_worker.reading.notes import Notes

READ_AS = "read_as"
"""The rule of a notice about a file that is not quite as its format demands, and was read."""


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file; `location` is its name below the upload, behind the dataset's name."""

    path: Path
    location: str
    sealed: bool = False
    """Whether no error text may quote the file."""
    notes: Notes = field(default_factory=lambda: Notes(READ_AS))

    def note(self, line: int, text: str, lines: int = 1) -> None:
        """Note how `lines` lines were read, the first of which is `line`."""
        self.notes.add(text, f"{self.location}:{line}", lines)
