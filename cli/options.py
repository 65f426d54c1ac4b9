"""Options that several commands share."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

Url = Annotated[str, typer.Option("--url", envvar="TREADLE_URL", help="Where the gateway answers.")]
DEFAULT_URL = "http://127.0.0.1:8080"
UserId = Annotated[int, typer.Option("--user", min=0, envvar="TREADLE_USER", help="On whose behalf.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the answer as JSON, for scripts.")]
TaskId = Annotated[str, typer.Argument(metavar="TASK", help="A task's id, as `treadle tasks` shows it.")]


def made(folder: Path) -> Path:
    """The folder itself, absolute and there. Raises InvalidInput, naming --folder, where it cannot be written to."""
    import tempfile

    from contracts.errors import FieldError, InvalidInput

    try:
        place = folder.expanduser().resolve()
        place.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=place).close()
    except (OSError, RuntimeError) as error:  # RuntimeError: ~name of nobody
        why = error.strerror if isinstance(error, OSError) else str(error)
        message = f"{folder} is no folder that can be written to: {why}"
        raise InvalidInput((FieldError(field="--folder", message=message),)) from error
    return place


class Format(StrEnum):
    """How an answer is printed."""

    TABLE = "table"
    JSON = "json"


AsFormat = Annotated[Format, typer.Option("--format", help="A table for people, or JSON for scripts.")]
