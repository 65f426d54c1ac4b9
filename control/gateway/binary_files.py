"""Recognizes files that are compressed or binary by their first bytes, whatever their names say."""

from __future__ import annotations

_SIGNATURES = {
    b"\x1f\x8b": "gzip data",
    b"PK\x03\x04": "a ZIP archive (or an Excel file)",
    b"PK\x05\x06": "an empty ZIP archive",
    b"PAR1": "a Parquet file",
    b"ARROW1": "an Arrow file",
    b"BZh": "bzip2 data",
    b"\xfd7zXZ\x00": "xz data",
    b"\x28\xb5\x2f\xfd": "zstd data",
    b"7z\xbc\xaf\x27\x1c": "a 7z archive",
    b"SQLite format 3\x00": "a SQLite database",
    b"\xd0\xcf\x11\xe0": "an old Excel file",
    b"%PDF-": "a PDF file",
}
LONGEST_SIGNATURE = max(len(signature) for signature in _SIGNATURES)
"""Bytes at the start of a file that decide."""


def binary_kind(start: bytes) -> str | None:
    """What a file that begins with `start` is, or None if it may be text."""
    return next((kind for signature, kind in _SIGNATURES.items() if start.startswith(signature)), None)
