"""`treadle retention`: delete what nothing refers to any more."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from cli.durations import seconds
from cli.options import AsFormat, Format

if TYPE_CHECKING:
    from control.maintenance.retention import Cleaned

WEEK = 7 * 86_400.0
"""Seconds."""


def retention(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
    older_than: Annotated[
        float | None, typer.Option(parser=seconds, metavar="TIME", help="What ended longer ago; 7d by default.")
    ] = None,
    form: AsFormat = Format.TABLE,
) -> None:
    """Delete what nothing refers to any more from the object store and the database that TREADLE_… name.

    That is what failed, fenced, lost and cancelled attempts wrote, superseded checkpoints, the datasets between the
    first and the best of tasks that have ended, and the record of messages that those have handled. Whatever a task
    that has not ended, or a registered model, refers to is never touched. Control does the same once an hour where
    TREADLE_RETENTION_AFTER is set, in days.

    **Examples**

        treadle retention --dry-run
        treadle retention --older-than 30d
    """
    import asyncio

    cleaned = asyncio.run(_clean(WEEK if older_than is None else older_than, dry_run))
    _show_json(cleaned, dry_run) if form is Format.JSON else _show_table(cleaned, dry_run)


async def _clean(older_than: float, dry_run: bool) -> Cleaned:
    from contextlib import AsyncExitStack

    from cli.settings import read_settings
    from control.maintenance.retention import clean, survey
    from control.store.postgres import PostgresStore
    from infra.objects import ObjectStore

    settings = read_settings()
    async with AsyncExitStack() as stack:
        store = await PostgresStore.open(settings.database_url.get_secret_value(), settings.ttl)
        stack.push_async_callback(store.close)
        objects = ObjectStore(settings)
        stack.push_async_callback(objects.close)
        await objects.ping()
        return await (survey if dry_run else clean)(store, objects, older_than)


def _show_table(cleaned: Cleaned, dry_run: bool) -> None:
    from rich.console import Console
    from rich.table import Table

    if cleaned.leftovers:
        table = Table("artifact", "reason", "objects", "bytes", box=None, header_style="bold", pad_edge=False)
        for leftover in cleaned.leftovers:
            table.add_row(leftover.prefix, leftover.reason, str(len(leftover.keys)), f"{leftover.size:,}")
        Console().print(table)
    verb = "would be" if dry_run else "were"
    told = f"{len(cleaned.leftovers)} artifacts of {cleaned.size:,} bytes and {cleaned.inbox} inbox rows"
    typer.echo(f"{told} {verb} deleted")


def _show_json(cleaned: Cleaned, dry_run: bool) -> None:
    artifacts = [
        {"prefix": one.prefix, "reason": one.reason, "objects": len(one.keys), "bytes": one.size}
        for one in cleaned.leftovers
    ]
    told = {"dryRun": dry_run, "artifacts": artifacts, "bytes": cleaned.size, "inboxRows": cleaned.inbox}
    typer.echo(json.dumps(told))
