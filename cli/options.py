"""Options that several commands share."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

Url = Annotated[str, typer.Option("--url", envvar="TREADLE_URL", help="Address of the gateway.")]
DEFAULT_URL = "http://127.0.0.1:8080"
UserId = Annotated[int, typer.Option("--user", min=0, envvar="TREADLE_USER", help="Id of the user who owns it.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]
TaskId = Annotated[str, typer.Argument(metavar="TASK", help="Id of the task, as printed by `treadle tasks`.")]


def create_folder(folder: Path, option: str = "--folder", *, private: bool = False) -> Path:
    """Create the folder, if `private` for this user only, and return its absolute path.

    Raises InvalidInput for `option` if it is not writable.
    """
    import tempfile

    from contracts.errors import FieldError, InvalidInput
    from infra.private_folders import create_private

    try:
        path = folder.expanduser().resolve()
        create_private(path) if private else path.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=path).close()
    except (OSError, RuntimeError) as error:  # RuntimeError: no such user in ~user
        why = error.strerror if isinstance(error, OSError) else str(error)
        message = f"{folder} is not a writable folder: {why}; choose another one"
        raise InvalidInput((FieldError(field=option, message=message),)) from error
    return path


class OutputFormat(StrEnum):
    """How a result is printed."""

    TABLE = "table"
    JSON = "json"


AsFormat = Annotated[OutputFormat, typer.Option("--format", help="Print a table, or JSON for scripts.")]
