from __future__ import annotations

from pathlib import Path

import pytest

from infra.errors import BadInput
from optimizer_worker.reading.containers import records
from optimizer_worker.reading.csv_files import MISQUOTED, NAMED_DELIMITER
from optimizer_worker.reading.dataset import OTHER_CASE, ReadResult
from optimizer_worker.reading.source_file import SourceFile
from tests.uploads import notes, read


def pairs(reading: ReadResult) -> list[tuple[str, str]]:
    return [(row.prompt, row.response) for row in reading.rows]


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_a_delimiter_is_recognised(tmp_path: Path, delimiter: str) -> None:
    content = f'text{delimiter}category\n"a{delimiter}b"{delimiter}c\n'
    assert pairs(read(tmp_path, a__csv=content)) == [(f"a{delimiter}b", "c")]


def test_signs_in_the_names_of_a_header_do_not_hide_its_delimiter(tmp_path: Path) -> None:
    assert pairs(read(tmp_path, a__csv="text;category;notes, dates, and so on\na;b;\n")) == [("a", "b")]


@pytest.mark.parametrize("line", ["sep=;", "SEP=;", '"sep=;"', "sep=;;", "\ufeffsep=;"])
def test_a_line_that_names_the_delimiter_is_heeded(tmp_path: Path, line: str) -> None:
    reading = read(tmp_path, a__csv=f"{line}\r\ntext;category\r\nthe lid, it broke;repair\r\n")
    assert (pairs(reading), notes(reading)) == ([("the lid, it broke", "repair")], [f"train: {NAMED_DELIMITER}"])
    assert reading.rows[0].id == "train/a.csv:3"


def test_a_quoted_field_may_span_lines_and_ids_count_lines(tmp_path: Path) -> None:
    reading = read(tmp_path, a__csv='text,category\n"one\ntwo",x\nthree,y\n')
    assert [row.id for row in reading.rows] == ["train/a.csv:2", "train/a.csv:4"]


def test_the_names_of_a_header_are_read_in_any_case(tmp_path: Path) -> None:
    reading = read(tmp_path, a__csv='\ufeff"\ufeffText" ,CATEGORY,System\na,b,c\n')
    assert [turn.content for turn in reading.rows[0].turns] == ["c", "a", "b"]
    assert notes(reading) == [f"train: {OTHER_CASE}"]


def test_spaces_of_a_field_are_kept(tmp_path: Path) -> None:
    assert pairs(read(tmp_path, a__csv="text, category\n  a , b \n")) == [("  a ", " b ")]


@pytest.mark.parametrize("first", ["where is my card?,card_arrival", "1;2", "a text without a delimiter"])
def test_a_file_without_a_header_is_refused_with_what_to_do(tmp_path: Path, first: str) -> None:
    with pytest.raises(BadInput, match=r"train/a\.csv:1 is no header of a known format .*text,category") as error:
        read(tmp_path, a__csv=f"{first}\nlost it,lost\n")
    assert error.value.field == "train/a.csv:1" and first.split(",", maxsplit=1)[0][:1] in str(error.value)


def test_a_first_line_of_the_sealed_split_that_is_no_header_is_not_quoted(tmp_path: Path) -> None:
    with pytest.raises(BadInput) as error:
        read(tmp_path, "test", a__csv="secret question,secret answer\n")
    assert "secret" not in str(error.value)


def test_a_column_named_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"train/a\.csv:1 names the column text twice"):
        read(tmp_path, a__csv="text,text,category\na,b,c\n")


@pytest.mark.parametrize(
    "content", ["text,category\na,x\n,\n,,\n\n", "text,category,,\na,x,,\n", "text,category\na,x,,\n"]
)
def test_empty_cells_at_the_end_are_nothing(tmp_path: Path, content: str) -> None:
    reading = read(tmp_path, a__csv=content)
    assert (pairs(reading), reading.unreadable, reading.notices) == ([("a", "x")], [], [])


def test_a_row_with_a_field_too_many_says_how_to_write_a_delimiter_in_a_text(tmp_path: Path) -> None:
    reading = read(tmp_path, a__csv="text,category\na,x\nplease, pay me,z\n")
    assert reading.unreadable[0].reason == (
        "expected 2 fields; a text with a delimiter must stand in double quotes, got 3"
    )


def test_a_row_with_a_field_too_few_is_quarantined(tmp_path: Path) -> None:
    assert read(tmp_path, a__csv="text,category\na,x\nb\n").unreadable[0].reason == "expected 2 fields, got 1"


def test_reading_goes_on_after_a_quote_that_is_never_closed(tmp_path: Path) -> None:
    reading = read(tmp_path, a__csv='text,category\na,x\n"b,y\nc,z\n')
    assert [row.prompt for row in reading.rows] == ["a", "c"]
    assert [(item.line, item.reason.startswith(MISQUOTED)) for item in reading.unreadable] == [(3, True)]


@pytest.mark.parametrize("sign", ["\u2028", "\u2029", "\u0085", "\x0b", "\x0c", "\x1c", "\x1d", "\x1e"])
def test_only_line_ends_end_a_row(tmp_path: Path, sign: str) -> None:
    reading = read(tmp_path, a__csv=f"text,category\r\nbefore{sign}after,lab\r\nb,y\r\n")
    assert ([row.prompt for row in reading.rows], reading.unreadable) == ([f"before{sign}after", "b"], [])


def test_every_one_of_many_mis_quoted_lines_is_reported(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text,category\n" + '"a" x,b\n' * 10_000)
    found = list(records(SourceFile(tmp_path / "a.csv", "a.csv")))
    assert sum(record.problem is not None for record in found) == 10_000


def test_messages_may_stand_in_a_column_as_json(tmp_path: Path) -> None:
    messages = '[{""role"": ""user"", ""content"": ""q""}, {""role"": ""assistant"", ""content"": ""a""}]'
    assert pairs(read(tmp_path, a__csv=f'messages,weight\n"{messages}",2\n')) == [("q", "a")]


def test_a_weight_in_a_column_is_the_weight_of_its_row(tmp_path: Path) -> None:
    reading = read(tmp_path, a__csv="prompt,response,weight\na,b,2.5\nc,d,\n")
    assert [row.weight for row in reading.rows] == [2.5, 1.0]
