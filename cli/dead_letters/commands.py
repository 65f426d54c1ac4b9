"""`treadle dlq`: commands for dead letters, which are messages that could not be handled."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from cli.durations import seconds
from cli.options import AsFormat, OutputFormat

if TYPE_CHECKING:
    from control.maintenance.dead_letters import DeadLetter
    from control.maintenance.replay import Replayed
    from control.store.port import Store
    from infra.bus.port import Bus

app = typer.Typer(no_args_is_help=True, help="List, replay or delete dead letters: messages that could not be handled.")
Ids = Annotated[list[str] | None, typer.Argument(metavar="[ID]...", help="Ids, as printed by `treadle dlq list`.")]


@app.command("list")
def list_(form: AsFormat = OutputFormat.TABLE) -> None:
    """List the dead letters on the broker of TREADLE_BUS_URL, oldest first.

    Every dead letter stays on the broker until it is replayed or purged.

    **Examples**

        treadle dlq list
        treadle dlq list --format json
    """
    import asyncio

    from cli.dead_letters import view as dlq_view

    dlq_view.show_all(asyncio.run(_all()), form)


@app.command()
def show(
    letter: Annotated[str, typer.Argument(metavar="ID", help="Id, as printed by `treadle dlq list`.")],
    form: AsFormat = OutputFormat.TABLE,
) -> None:
    """Show one dead letter with its reason, its headers and its body.

    Secrets in the headers are masked.

    **Example**

        treadle dlq show ID
    """
    import asyncio

    from cli.dead_letters import view as dlq_view

    (selected, *_) = _by_id([letter], asyncio.run(_all()))
    dlq_view.show_one(selected, form)


@app.command()
def replay(
    ids: Ids = None,
    every: Annotated[bool, typer.Option("--all", help="Replay all dead letters.")] = False,
    drop_stale: Annotated[bool, typer.Option("--drop-stale", help="Delete dead letters that are out of date.")] = False,
    form: AsFormat = OutputFormat.TABLE,
) -> None:
    """Send dead letters back to their queues, after the cause of the failure is fixed.

    Each dead letter is first checked against the database of TREADLE_DATABASE_URL. A command is refused if its attempt
    is not the current one; an event is refused if it is stale or was handled already. Refused dead letters are kept;
    --drop-stale deletes those that are out of date. The exit status is 1 if a refused dead letter is kept.

    **Examples**

        treadle dlq replay ID
        treadle dlq replay --all --drop-stale
    """
    import asyncio

    from cli.dead_letters import view as dlq_view

    results = asyncio.run(_replay(ids, every, drop_stale))
    dlq_view.show_replayed(results, form)
    if any(result.refusal and not result.dropped for result in results):
        raise typer.Exit(1)


@app.command()
def purge(
    ids: Ids = None,
    older_than: Annotated[
        float | None,
        typer.Option(parser=seconds, metavar="TIME", help="Delete those published longer ago, such as 7d."),
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="Delete all dead letters.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Delete without asking for confirmation.")] = False,
    form: AsFormat = OutputFormat.TABLE,
) -> None:
    """Delete dead letters permanently.

    No task depends on them: the attempts of undelivered commands have failed or are issued again.

    **Examples**

        treadle dlq purge --older-than 30d
        treadle dlq purge --all --yes
    """
    import asyncio

    from cli.dead_letters import view as dlq_view

    letters = _older(_select(ids, every or older_than is not None, asyncio.run(_all())), older_than)
    if letters and not yes:
        _confirm(len(letters))
    dlq_view.show_purged(asyncio.run(_purge({letter.id for letter in letters})) if letters else [], form)


def _confirm(count: int) -> None:
    """Ask for confirmation; without a terminal, fail and name the option --yes."""
    import sys

    from cli.errors import WRONG_INPUT, fail

    if not sys.stdin.isatty():
        fail(f"{count} dead letters would be deleted permanently: add --yes to confirm", status=WRONG_INPUT)
    typer.confirm(f"Delete {count} dead letters permanently?", abort=True)


def _select(ids: Sequence[str] | None, every: bool, letters: Sequence[DeadLetter]) -> list[DeadLetter]:
    """The selected letters. Raises InvalidInput unless either ids or --all is given, or if an id does not exist."""
    if bool(ids) == every:
        from contracts.errors import FieldError, InvalidInput

        raise InvalidInput((FieldError(field="ID", message="expected either ids (see `treadle dlq list`) or --all"),))
    return list(letters) if every else _by_id(ids or (), letters)


def _by_id(ids: Sequence[str], letters: Sequence[DeadLetter]) -> list[DeadLetter]:
    missing = sorted(set(ids) - {letter.id for letter in letters})
    if missing:
        from contracts.errors import FieldError, InvalidInput

        message = f"there is no dead letter {', '.join(missing)}; `treadle dlq list` prints the ids"
        raise InvalidInput((FieldError(field="ID", message=message),))
    return [letter for letter in letters if letter.id in ids]


def _older(letters: Sequence[DeadLetter], older_than: float | None) -> list[DeadLetter]:
    """Those published more than `older_than` seconds ago; letters without a time of publication are left out."""
    if older_than is None:
        return list(letters)
    from datetime import UTC, datetime, timedelta

    before = datetime.now(UTC) - timedelta(seconds=older_than)
    return [letter for letter in letters if letter.published_at is not None and letter.published_at < before]


async def _all() -> list[DeadLetter]:
    from control.maintenance.replay import dead_letters

    async with _bus() as bus:
        return await dead_letters(bus)


async def _purge(ids: set[str]) -> list[DeadLetter]:
    from control.maintenance.replay import purge

    async with _bus() as bus:
        return await purge(bus, lambda letter: letter.id in ids)


async def _replay(ids: Sequence[str] | None, every: bool, drop_stale: bool) -> list[Replayed]:
    from control.maintenance.replay import dead_letters, replay

    async with _bus() as bus, _store() as store:
        selected = {letter.id for letter in _select(ids, every, await dead_letters(bus))}
        return await replay(bus, store, lambda letter: letter.id in selected, drop_final=drop_stale)


@asynccontextmanager
async def _bus() -> AsyncIterator[Bus]:
    """Connect to the broker. Raises InvalidInput for the in-process bus, which other processes cannot reach."""
    from cli.settings import read_settings
    from infra.bus.connect import connect
    from infra.settings import IN_PROCESS

    settings = read_settings()
    if settings.bus_url.get_secret_value() == IN_PROCESS:
        from contracts.errors import FieldError, InvalidInput

        message = "the in-process bus cannot be reached from another process; expected amqp://…"
        raise InvalidInput((FieldError(field="TREADLE_BUS_URL", message=message),))
    bus = connect(settings)
    await bus.start()
    try:
        yield bus
    finally:
        await bus.close()


@asynccontextmanager
async def _store() -> AsyncIterator[Store]:
    from cli.settings import read_settings
    from control.store.postgres import PostgresStore

    settings = read_settings()
    store = await PostgresStore.open(settings.database_url.get_secret_value(), settings.ttl)
    try:
        yield store
    finally:
        await store.close()
