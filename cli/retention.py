"""`treadle retention`: delete artifacts and inbox rows that are no longer referenced."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from cli.durations import seconds
from cli.options import AsFormat, OutputFormat
from cli.terminal import Terminal, echo, echo_json

if TYPE_CHECKING:
    from control.maintenance.retention import Cleaned

WEEK = 7 * 86_400.0
"""In seconds."""


def retention(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what would be deleted; delete nothing.")] = False,
    older_than: Annotated[
        float | None,
        typer.Option(parser=seconds, metavar="TIME", help="Delete only what ended longer ago; 7d by default."),
    ] = None,
    form: AsFormat = OutputFormat.TABLE,
) -> None:
    """Delete old artifacts and message records that are no longer needed.

    It deletes from the object store and the database of the TREADLE_… variables:

    - the output of failed, fenced, lost and cancelled attempts
    - superseded checkpoints
    - intermediate datasets of tasks that have ended
    - logs of attempts whose task has ended
    - inbox rows (records of handled messages) of tasks that have ended

    It never deletes what a task that has not ended, or a registered model, refers to. Control does the same once an
    hour if TREADLE_RETENTION_AFTER is set, in days.

    **Examples**

        treadle retention --dry-run
        treadle retention --older-than 30d
    """
    import asyncio

    cleaned = asyncio.run(_clean(WEEK if older_than is None else older_than, dry_run))
    _show_json(cleaned, dry_run) if form is OutputFormat.JSON else _show_table(cleaned, dry_run)


async def _clean(older_than: float, dry_run: bool) -> Cleaned:
    from cli.services.composition import stores
    from control.maintenance.retention import clean, preview

    async with stores() as (store, objects):
        return await (preview if dry_run else clean)(store, objects, older_than)


def _show_table(cleaned: Cleaned, dry_run: bool) -> None:
    from rich.table import Table

    if cleaned.unreferenced:
        table = Table("artifact", "reason", "objects", "bytes", box=None, header_style="bold", pad_edge=False)
        for artifact in cleaned.unreferenced:
            table.add_row(artifact.prefix, artifact.reason, str(len(artifact.keys)), f"{artifact.size:,}")
        Terminal().print(table)
    verb = "would be" if dry_run else "were"
    summary = f"{len(cleaned.unreferenced)} artifacts of {cleaned.size:,} bytes and {cleaned.inbox} inbox rows"
    echo(f"{summary} {verb} deleted")


def _show_json(cleaned: Cleaned, dry_run: bool) -> None:
    artifacts = [
        {"prefix": artifact.prefix, "reason": artifact.reason, "objects": len(artifact.keys), "bytes": artifact.size}
        for artifact in cleaned.unreferenced
    ]
    result = {"dryRun": dry_run, "artifacts": artifacts, "bytes": cleaned.size, "inboxRows": cleaned.inbox}
    echo_json(result)
