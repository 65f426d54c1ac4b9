"""Recognise files that are not UTF-8 text or no rows, and name them with what to do."""

from __future__ import annotations

import codecs
import io
import re

from infra.errors import BadInput
from optimizer_worker.reading.fields import RecordError
from optimizer_worker.reading.source_file import SourceFile

_ROWS = "write its rows as JSON lines, for example with pandas: frame.to_json(FILE, orient='records', lines=True)"
_UNPACK = "unpack it, and upload the files in it"
_TEXT = "upload JSON lines, a JSON array or CSV"
_SIGNATURES: tuple[tuple[bytes, str, str], ...] = (
    (b"PAR1", "a Parquet file", _ROWS),
    (b"ARROW1", "an Arrow file", _ROWS),
    (b"FEA1", "a Feather file", _ROWS),
    (b"\xff\xff\xff\xff", "an Arrow stream", _ROWS),
    (b"Obj\x01", "an Avro file", _ROWS),
    (b"\x89HDF", "an HDF5 file", _ROWS),
    (b"\x93NUMPY", "a NumPy file", _ROWS),
    (b"SQLite format 3", "an SQLite database", _ROWS),
    (b"\xd0\xcf\x11\xe0", "an old Excel or Word file", "save the sheet as 'CSV UTF-8'"),
    (b"PK\x03\x04", "a ZIP archive", _UNPACK),
    (b"\x1f\x8b", "compressed with gzip", _UNPACK),
    (b"BZh", "compressed with bzip2", _UNPACK),
    (b"\xfd7zXZ", "compressed with xz", _UNPACK),
    (b"\x28\xb5\x2f\xfd", "compressed with zstd", _UNPACK),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive", _UNPACK),
    (b"Rar!", "a RAR archive", _UNPACK),
    (b"%PDF", "a PDF file", _TEXT),
    (b"\x89PNG", "a PNG image", _TEXT),
    (b"\xff\xd8\xff", "a JPEG image", _TEXT),
)
_TEXTS: tuple[tuple[re.Pattern[bytes], str, str], ...] = (
    (re.compile(rb"version https://git-lfs"), "a Git LFS pointer, not the file", "get the file with `git lfs pull`"),
    (
        re.compile(rb"<!doctype html|<html", re.IGNORECASE),
        "a web page (HTML)",
        "download the file, not its page",
    ),
    (re.compile(rb"<\?xml", re.IGNORECASE), "an XML file", _ROWS),
    (re.compile(rb"(?:%YAML[^\n]*\n)?(?:---\s+)?- [\w ]+:\s"), "a YAML file", _ROWS),
)
"""Beginnings of text files that hold no rows."""
_PICKLE = re.compile(rb"\x80[\x02-\x05][\x80-\x95c\]}(Xq]")
_WIDE_MARKS: tuple[tuple[bytes, str], ...] = (
    (codecs.BOM_UTF32_LE, "UTF-32"),
    (codecs.BOM_UTF32_BE, "UTF-32"),
    (codecs.BOM_UTF16_LE, "UTF-16"),
    (codecs.BOM_UTF16_BE, "UTF-16"),
)
_SAMPLE = 200
"""Bytes at the beginning by which a kind of text file, UTF-16 and UTF-32 are recognised."""
_HIGH = re.compile(rb"[\x80-\xff]+")
_FEW = 3
"""Fewer lines than these that are not UTF-8 are taken for damage, not for another encoding."""


def text_of(file: SourceFile) -> bytes:
    """Return the content as UTF-8 without a byte-order mark; single lines may still be invalid.

    Raises BadInput, with the file as its field, if the whole file is no text or has another encoding.
    """
    data = file.path.read_bytes()
    if problem := _other_file(data) or _wide(data):
        raise BadInput(f"{file.location} is {problem}", field=file.location)
    data = data.removeprefix(codecs.BOM_UTF8)
    if not _is_utf8(data) and _is_other_encoding(data):
        raise BadInput(f"{file.location} is {_not_utf8(data)}", field=file.location)
    return data


def encoding_problem(line: bytes) -> RecordError | None:
    """Return the problem of a line that is not UTF-8, or None."""
    return None if _is_utf8(line) else RecordError(_not_utf8(line))


def _other_file(data: bytes) -> str:
    if data.startswith(b"PK\x03\x04") and b"xl/workbook" in data:
        return "an Excel workbook; save the sheet as 'CSV UTF-8'"
    if _PICKLE.match(data):
        return f"a Python pickle; {_ROWS}"
    if found := next((f"{name}; {fix}" for start, name, fix in _SIGNATURES if data.startswith(start)), ""):
        return found
    start = data[:_SAMPLE].removeprefix(codecs.BOM_UTF8).lstrip()
    return next((f"{name}; {fix}" for begins, name, fix in _TEXTS if begins.match(start)), "")


def _wide(data: bytes) -> str:
    """Return the problem of a file in UTF-16 or UTF-32, with or without a byte-order mark."""
    name = next((name for mark, name in _WIDE_MARKS if data.startswith(mark)), "") or _wide_without_mark(data)
    return f"{name}; expected UTF-8: {_conversion(name)}" if name else ""


def _wide_without_mark(data: bytes) -> str:
    """Return the encoding whose pattern of NUL bytes the beginning has: every second byte, or three of four."""
    sample = data[:_SAMPLE]
    first, second, third, fourth = (sample[i::4].count(0) for i in range(4))
    enough = max(2, len(sample) // 40)
    if not first and min(third, fourth) * 5 > len(sample):
        return "UTF-32LE"
    if not fourth and min(first, second) * 5 > len(sample):
        return "UTF-32BE"
    if not first + third and second + fourth >= enough:
        return "UTF-16LE"
    return "UTF-16BE" if not second + fourth and first + third >= enough else ""


def _is_utf8(data: bytes) -> bool:
    try:
        return data.isascii() or data.decode() is not None
    except UnicodeDecodeError:
        return False


def _is_other_encoding(data: bytes) -> bool:
    """Whether no line with a character outside ASCII is UTF-8, and there are too many such lines for damage."""
    lines = broken = 0
    for line in io.BytesIO(data):
        lines += 1
        if not line.isascii():
            if _is_utf8(line):
                return False
            broken += 1
    return broken >= _FEW and broken * 10 >= lines


def _not_utf8(data: bytes) -> str:
    if data.count(0) * 10 > len(data):
        return f"not text; {_TEXT}"
    runs = [len(run) for run in _HIGH.findall(data)]
    if runs.count(1) * 2 > len(runs):
        return f"not UTF-8; expected UTF-8, but it looks like Windows-1252: {_conversion('WINDOWS-1252')}"
    return (
        "not UTF-8; expected UTF-8: convert the file with `iconv -f ENCODING -t UTF-8 OLD > NEW`, where ENCODING is "
        "for example GB18030, SHIFT_JIS, EUC-KR or WINDOWS-1251"
    )


def _conversion(name: str) -> str:
    return f"convert the file with `iconv -f {name} -t UTF-8 OLD > NEW`, or save it as 'CSV UTF-8'"
