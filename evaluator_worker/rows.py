"""Read the rows of a split; test rows lose their id, slice and source, so that no later output can identify one."""

from __future__ import annotations

from pathlib import Path

from contracts.rows import Row
from infra.errors import BadInput
from infra.row_files import read_rows


def dev_rows(folder: Path) -> list[Row]:
    """Read `dev.jsonl`. Raises BadInput if it has no rows or a line is not a Row."""
    path = folder / "dev.jsonl"
    rows = read_rows(path) if path.is_file() else []
    if not rows:
        raise BadInput("dev.jsonl holds no rows; expected at least one row to score", field="dev")
    return rows


def test_rows(folder: Path) -> list[Row]:
    """Read `test.jsonl`, sealed; empty if the task has no test split. Raises BadInput for a bad line."""
    path = folder / "test.jsonl"
    if not path.is_file():
        return []
    return [row.model_copy(update={"id": "sealed", "slice": "all", "source": None}) for row in read_rows(path)]
