from __future__ import annotations

from pathlib import Path

import pytest

from infra.errors import BadInput
from tests.models import colour_rows, write_rows
from trainer_worker.programs.examples import read_rows


def test_rows_are_read_as_they_were_written(tmp_path: Path) -> None:
    write_rows(tmp_path / "train.jsonl", colour_rows())
    assert read_rows(tmp_path / "train.jsonl") == colour_rows()


@pytest.mark.parametrize("line", ["{", '{"id": 3}', '{"id": "a", "weight": -1}'])
def test_a_bad_line_is_named_by_file_and_number(tmp_path: Path, line: str) -> None:
    path = tmp_path / "train.jsonl"
    write_rows(path, colour_rows())
    path.write_text(path.read_text() + line)
    with pytest.raises(BadInput) as caught:
        read_rows(path)
    assert caught.value.field == "train.jsonl:7"


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    write_rows(tmp_path / "train.jsonl", [])
    with pytest.raises(BadInput, match=r"train\.jsonl is empty; expected at least one row"):
        read_rows(tmp_path / "train.jsonl")


def test_a_missing_file_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"holds no train\.jsonl"):
        read_rows(tmp_path / "train.jsonl")
