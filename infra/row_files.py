"""Files of canonical rows, one JSON object per line."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from contracts.errors import error_text
from contracts.rows import Row
from infra.errors import BadInput

M = TypeVar("M", bound=BaseModel)


def read_rows(path: Path) -> list[Row]:
    """The rows of a file. Raises BadInput as `read_lines` does."""
    return read_lines(path, Row)


def read_lines(path: Path, model: type[M]) -> list[M]:
    """The objects of a file without its blank lines. Raises BadInput if the file is missing or a line is invalid.

    The error names the line and its fields, but does not quote the line, which may be part of the sealed test split.
    """
    try:
        with path.open("rb") as lines:
            return [
                _parsed(line, model, f"{path.name}:{number}") for number, line in enumerate(lines, 1) if line.strip()
            ]
    except FileNotFoundError as error:
        raise BadInput(f"the artifact has no file {path.name}", field=path.name) from error


def _parsed(line: bytes, model: type[M], place: str) -> M:
    try:
        return model.model_validate_json(line)
    except ValidationError as error:
        problems = error.errors(include_input=False, include_url=False, include_context=False)
        wrong = "; ".join(f"{'.'.join(map(str, p['loc'])) or 'line'}: {error_text(p['msg'])}" for p in problems)
    raise BadInput(f"{place} is not a {model.__name__.lower()}: {wrong}", field=place)
