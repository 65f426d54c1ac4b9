"""Read the rows of a split. Test rows lose id and slice at the door: nothing said later can name one."""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from contracts.rows import Row
from infra.errors import BadInput


def dev_rows(folder: Path) -> list[Row]:
    """The rows of `dev.jsonl`. Raises BadInput where there are none, or where a line is not a Row."""
    path = folder / "dev.jsonl"
    rows = _read(path) if path.is_file() else []
    if not rows:
        raise BadInput("dev.jsonl holds no rows; expected at least one to score", field="dev")
    return rows


def test_rows(folder: Path) -> list[Row]:
    """The rows of `test.jsonl`, nameless; empty where the task has no test split."""
    path = folder / "test.jsonl"
    if not path.is_file():
        return []
    return [row.model_copy(update={"id": "sealed", "slice": "all"}) for row in _read(path)]


def _read(path: Path) -> list[Row]:
    with path.open(encoding="utf-8") as lines:
        return [_row(line, f"{path.name}:{number}") for number, line in enumerate(lines, 1) if line.strip()]


def _row(line: str, where: str) -> Row:
    """One line. The error names the fields and never quotes the line, which may be of the sealed test."""
    try:
        return Row.model_validate_json(line)
    except ValidationError as error:
        problems = error.errors(include_input=False, include_url=False, include_context=False)
        wrong = "; ".join(f"{'.'.join(map(str, p['loc'])) or 'line'}: {p['type']}" for p in problems)
    raise BadInput(f"{where} is not a row: {wrong}", field=where)
