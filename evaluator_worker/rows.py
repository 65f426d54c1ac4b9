"""Read the rows of a split. Test rows lose id and slice at the door: nothing said later can name one."""

from __future__ import annotations

from pathlib import Path

from contracts.rows import Row
from infra.errors import BadInput
from infra.row_files import read_rows


def dev_rows(folder: Path) -> list[Row]:
    """The rows of `dev.jsonl`. Raises BadInput where there are none, or where a line is not a Row."""
    path = folder / "dev.jsonl"
    rows = read_rows(path) if path.is_file() else []
    if not rows:
        raise BadInput("dev.jsonl holds no rows; expected at least one to score", field="dev")
    return rows


def test_rows(folder: Path) -> list[Row]:
    """The rows of `test.jsonl`, nameless; empty where the task has no test split."""
    path = folder / "test.jsonl"
    if not path.is_file():
        return []
    return [row.model_copy(update={"id": "sealed", "slice": "all"}) for row in read_rows(path)]
