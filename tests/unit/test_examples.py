from __future__ import annotations

from pathlib import Path

import pytest

from infra.errors import BadInput
from tests.models import colour_rows, write_rows
from trainer_worker.programs.examples import training_rows


def test_rows_are_read_as_they_were_written(tmp_path: Path) -> None:
    write_rows(tmp_path / "train.jsonl", colour_rows())
    assert training_rows(tmp_path / "train.jsonl") == colour_rows()


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    write_rows(tmp_path / "train.jsonl", [])
    with pytest.raises(BadInput, match=r"train\.jsonl is empty; expected at least one row"):
        training_rows(tmp_path / "train.jsonl")
