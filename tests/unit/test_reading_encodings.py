from __future__ import annotations

import codecs
import zipfile
from pathlib import Path

import pytest

from infra.errors import BadInput
from tests.uploads import lines, read

FRENCH = [f"{{}}où est la clé n{i}?{{}}clés{{}}\n" for i in range(3)]


@pytest.mark.parametrize(
    ("content", "found"),
    [
        ("version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12\n", "Git LFS pointer.*`git lfs pull`"),
        ("<!DOCTYPE html>\n<html>\n", "a web page .HTML.; download the file"),
        ("\ufeff\n<HTML lang='en'>\n", "a web page .HTML."),
        ("<?xml version='1.0'?>\n<rows/>\n", "an XML file; write its rows as JSON lines"),
        ("- prompt: q\n  response: a\n", "a YAML file; write its rows as JSON lines"),
        ("---\n- prompt: q\n", "a YAML file"),
    ],
)
@pytest.mark.parametrize("name", ["a.jsonl", "a.csv"])
def test_a_text_file_of_another_kind_is_refused_by_name(tmp_path: Path, name: str, content: str, found: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(BadInput, match=rf"^train/{name} is (a )?{found}"):
        read(tmp_path)


@pytest.mark.parametrize("content", [b"\xef\xbb\xbftext,category\na,b\n", b'\xef\xbb\xbf{"text": "a", "label": "b"}'])
def test_a_byte_order_mark_is_tolerated(tmp_path: Path, content: bytes) -> None:
    assert read(tmp_path, a=content).rows[0].prompt == "a"


@pytest.mark.parametrize(
    "content",
    [
        "text,category\n" + "".join(line.format("", ",", "") for line in FRENCH),
        "".join(line.format('{"prompt": "', '", "response": "', '"}') for line in FRENCH),
        "text,category\n" + "a,b\n" * 20 + "".join(line.format("", ",", "") for line in FRENCH),
    ],
)
def test_a_file_in_windows_1252_is_refused_with_the_way_to_convert_it(tmp_path: Path, content: str) -> None:
    with pytest.raises(BadInput, match=r"train/a is not UTF-8; .*iconv -f WINDOWS-1252 -t UTF-8") as error:
        read(tmp_path, a=content.encode("cp1252"))
    assert error.value.field == "train/a"


def test_a_file_in_an_east_asian_encoding_is_refused_with_a_list_of_encodings(tmp_path: Path) -> None:
    content = "text,category\n" + "你好世界,问候\n" * 3
    with pytest.raises(BadInput, match=r"is not UTF-8; expected UTF-8: convert .*GB18030, SHIFT_JIS"):
        read(tmp_path, a=content.encode("gb18030"))


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("a__csv", b"text,category\ncaf\xe9,x\nb,y\n"),
        ("a__jsonl", b'{"text": "\xe9", "label": "x"}\n' + lines({"text": "b", "label": "y"}).encode()),
    ],
)
def test_a_single_line_that_is_not_utf_8_costs_one_row(tmp_path: Path, file: str, content: bytes) -> None:
    reading = read(tmp_path, **{file: content})
    assert [row.prompt for row in reading.rows] == ["b"]
    assert "not UTF-8; expected UTF-8, but it looks like Windows-1252" in reading.unreadable[0].reason


def test_damaged_lines_of_a_file_in_utf_8_cost_only_themselves(tmp_path: Path) -> None:
    content = b"text,category\n" + "é,x\n".encode() * 5 + b"\xe9,x\n" * 4
    reading = read(tmp_path, a__csv=content)
    assert (len(reading.rows), len(reading.unreadable)) == (5, 4)


def test_a_csv_line_both_mis_quoted_and_not_utf_8_can_be_written_to_the_quarantine(tmp_path: Path) -> None:
    reading = read(tmp_path, a__csv=b"text,category\n" + b"a,b\n" * 20 + b'"caf\xe9" x,lab\n')
    (item,) = reading.unreadable
    assert len(reading.rows) == 20 and '"caf\N{REPLACEMENT CHARACTER}\\" x,lab"' in item.model_dump_json()


def test_a_csv_header_that_is_not_utf_8_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"train/a\.csv:1 is not UTF-8; expected UTF-8") as error:
        read(tmp_path, a__csv="text,catégorie\na,b\n".encode("latin-1"))
    assert error.value.field == "train/a.csv:1"


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"])
@pytest.mark.parametrize("text", ["text,category\na,b\n", '{"text": "Привет, мир"}', "文本,标签\n你好世界,问候\n"])
def test_utf_16_and_utf_32_without_a_mark_are_refused_by_name(tmp_path: Path, encoding: str, text: str) -> None:
    name = encoding.upper().replace("-", "").replace("UTF", "UTF-")
    with pytest.raises(BadInput, match=rf"is {name}; expected UTF-8: .*iconv -f {name} -t UTF-8"):
        read(tmp_path, a=text.encode(encoding))


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32"])
def test_utf_16_and_utf_32_with_a_mark_are_refused_by_name(tmp_path: Path, encoding: str) -> None:
    with pytest.raises(BadInput, match=rf"is {encoding.upper()}; expected UTF-8"):
        read(tmp_path, a="text,category\na,b\n".encode(encoding))


@pytest.mark.parametrize(
    ("start", "name"),
    [
        (b"PAR1\x15\x04", "a Parquet file; write its rows as JSON lines"),
        (b"\x1f\x8b\x08\x00", "compressed with gzip; unpack it"),
        (b"PK\x03\x04\x14\x00", "a ZIP archive; unpack it"),
        (b"\x80\x04\x95\x10\x00", "a Python pickle; write its rows as JSON lines"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1", "an old Excel or Word file; save the sheet as 'CSV UTF-8'"),
        (b"\x89PNG\r\n\x1a\n\x00\xff,\xfe\n", "a PNG image; upload JSON lines"),
        (b"%PDF-1.7\n", "a PDF file; upload JSON lines"),
    ],
)
def test_a_file_that_is_no_text_is_refused_by_name(tmp_path: Path, start: bytes, name: str) -> None:
    with pytest.raises(BadInput) as error:
        read(tmp_path, a__jsonl=start)
    assert str(error.value).startswith(f"train/a.jsonl is {name}") and error.value.field == "train/a.jsonl"


def test_an_excel_workbook_is_distinguished_from_other_archives(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.csv", "w") as archive:
        archive.writestr("xl/workbook.xml", "")
    with pytest.raises(BadInput, match="is an Excel workbook; save the sheet as 'CSV UTF-8'"):
        read(tmp_path)


def test_a_text_with_a_nul_character_is_no_utf_16(tmp_path: Path) -> None:
    assert read(tmp_path, a=codecs.BOM_UTF8 + b"text,category\na\0b,c\n").rows[0].prompt == "a\0b"
