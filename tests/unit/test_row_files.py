"""Files of canonical rows: the error about a wrong line gives its place and never its content."""

from __future__ import annotations

from pathlib import Path

import pytest

from infra.errors import BadInput
from infra.row_files import read_rows
from tests.models import colour_rows, write_rows


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "train.jsonl"
    write_rows(path, colour_rows())
    return path


def test_rows_are_read_as_they_were_written(path: Path) -> None:
    assert read_rows(path) == colour_rows()


def test_blank_lines_are_left_out(path: Path) -> None:
    path.write_text("\n" + path.read_text() + "\n  \n")
    assert read_rows(path) == colour_rows()


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("{", "line: Invalid JSON"),
        ('{"id": 3}', "id: Input should be a valid string"),
        ('{"id": "a", "weight": -1}', "weight: Input should be greater than 0"),
    ],
)
def test_a_wrong_line_is_named_by_file_number_and_field(path: Path, line: str, problem: str) -> None:
    path.write_text(path.read_text() + line)
    with pytest.raises(BadInput, match=rf"train\.jsonl:7 is not a row: {problem}") as caught:
        read_rows(path)
    assert caught.value.field == "train.jsonl:7"


@pytest.mark.parametrize("line", ['{"id": "secret', '{"id": ["secret"]}', '{"id": "a", "weight": "secret"}'])
def test_what_a_line_holds_is_not_quoted(path: Path, line: str) -> None:
    path.write_text(line)
    with pytest.raises(BadInput) as caught:
        read_rows(path)
    assert "secret" not in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"has no file dev\.jsonl"):
        read_rows(tmp_path / "dev.jsonl")
