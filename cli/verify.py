"""`treadle verify`: list what the database refers to and the object store lacks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import typer

from cli.options import AsFormat, OutputFormat
from cli.terminal import Terminal, echo, echo_json

if TYPE_CHECKING:
    from control.maintenance.verification import Verified


def verify(form: AsFormat = OutputFormat.TABLE) -> None:
    """Check that the object store has every artifact that the database refers to.

    Use it after a restore. It looks up the datasets, models, checkpoints and reports of all tasks in the database and
    the object store of the TREADLE_… variables, compares the names and sizes of their files with their manifests, and
    changes nothing. The exit status is 1 if an artifact is missing or incomplete.

    **Examples**

        treadle verify
        treadle verify --format json
    """
    import asyncio

    with _progress_bar() as on_step:
        verified = asyncio.run(_verify(on_step))
    _show_json(verified) if form is OutputFormat.JSON else _show_table(verified)
    if verified.incomplete:
        raise typer.Exit(1)


async def _verify(on_step: Callable[[str, int, int | None], None]) -> Verified:
    from cli.services.composition import stores
    from control.maintenance.verification import verify

    async with stores() as (store, objects):
        return await verify(store, objects, on_step)


@contextmanager
def _progress_bar() -> Iterator[Callable[[str, int, int | None], None]]:
    """Show the progress on standard error; yields a function to call with each step."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    terminal = Terminal(stderr=True)
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=terminal, disable=not terminal.is_terminal, transient=True) as progress:
        bar = progress.add_task("tasks", total=None)
        yield lambda kind, done, total: progress.update(bar, description=kind, completed=done, total=total)


def _show_table(verified: Verified) -> None:
    from rich.table import Table

    if verified.incomplete:
        table = Table("artifact", "problem", "of", box=None, header_style="bold", pad_edge=False)
        for artifact in verified.incomplete:
            table.add_row(artifact.prefix, artifact.problem, artifact.referrer)
        Terminal().print(table)
    echo(f"{len(verified.incomplete)} of {verified.artifacts} artifacts are missing or incomplete")


def _show_json(verified: Verified) -> None:
    incomplete = [
        {"prefix": artifact.prefix, "problem": artifact.problem, "referrer": artifact.referrer}
        for artifact in verified.incomplete
    ]
    echo_json({"artifacts": verified.artifacts, "incomplete": incomplete})
