"""Read files as numbered records: JSON lines, a JSON document or CSV, by their first character and their ending."""

from __future__ import annotations

from collections.abc import Iterator

from optimizer_worker.reading.csv_files import csv_records
from optimizer_worker.reading.encodings import text_of
from optimizer_worker.reading.json_documents import document_records, is_document
from optimizer_worker.reading.json_lines import COMMENTS, line_records
from optimizer_worker.reading.records import Record
from optimizer_worker.reading.source_file import SourceFile

JSON_ENDINGS = frozenset({".json", ".jsonl", ".ndjson"})
"""Endings of files that are never read as CSV."""


def records(file: SourceFile) -> Iterator[Record]:
    """Yield the records of a file. Raises BadInput, which names the file, if the whole file cannot be read."""
    data = text_of(file)
    if not _first_line(data).startswith((b"{", b"[")) and file.path.suffix.lower() not in JSON_ENDINGS:
        return csv_records(data, file)
    return document_records(data, file) if is_document(data) else line_records(data, file)


def _first_line(data: bytes) -> bytes:
    """Return the beginning of the first line that is neither empty nor a comment."""
    lines = (line.strip() for line in data[:4096].splitlines())
    return next((line for line in lines if line and not line.startswith(COMMENTS)), b"")
