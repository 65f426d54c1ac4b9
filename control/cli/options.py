"""Options that several commands share."""

from __future__ import annotations

from typing import Annotated

import typer

Url = Annotated[str, typer.Option("--url", envvar="TREADLE_URL", help="Where the gateway answers.")]
DEFAULT_URL = "http://127.0.0.1:8080"
UserId = Annotated[int, typer.Option("--user", min=0, envvar="TREADLE_USER", help="On whose behalf.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the answer as JSON, for scripts.")]
TaskId = Annotated[str, typer.Argument(metavar="TASK", help="A task's id, as `treadle tasks` shows it.")]
