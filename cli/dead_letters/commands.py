"""`treadle dlq`: the messages that could not be handled."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from cli.durations import seconds
from cli.options import AsFormat, Format

if TYPE_CHECKING:
    from control.maintenance.dead_letters import DeadLetter
    from control.maintenance.replay import Replayed
    from control.store.port import Store
    from infra.bus.port import Bus

app = typer.Typer(no_args_is_help=True, help="Dead letters: messages that could not be handled, kept with the reason.")
Ids = Annotated[list[str] | None, typer.Argument(metavar="[ID]...", help="As `treadle dlq list` shows them.")]


@app.command("list")
def list_(form: AsFormat = Format.TABLE) -> None:
    """List the dead letters on the broker of TREADLE_BUS_URL, oldest first; they stay as they are.

    **Example**

        treadle dlq list --format json
    """
    import asyncio

    from cli.dead_letters import view as dlq_view

    dlq_view.show_all(asyncio.run(_all()), form)


@app.command()
def show(
    letter: Annotated[str, typer.Argument(metavar="ID", help="As `treadle dlq list` shows it.")],
    form: AsFormat = Format.TABLE,
) -> None:
    """Show one dead letter whole: why it is there, its headers and its body."""
    import asyncio

    from cli.dead_letters import view as dlq_view

    (found, *_) = _known([letter], asyncio.run(_all()))
    dlq_view.show_one(found, form)


@app.command()
def replay(
    ids: Ids = None,
    every: Annotated[bool, typer.Option("--all", help="All of them.")] = False,
    drop_stale: Annotated[bool, typer.Option("--drop-stale", help="Delete those whose time is over.")] = False,
    form: AsFormat = Format.TABLE,
) -> None:
    """Send dead letters back to the queues where they died, once what was wrong is mended.

    Each is checked again first, against TREADLE_DATABASE_URL: a command whose attempt is not the live one, or an event
    that is stale or was heard, is refused and stays, unless --drop-stale deletes it. The exit status is 1 if any
    was refused and stays.

    **Example**

        treadle dlq replay --all --drop-stale
    """
    import asyncio

    from cli.dead_letters import view as dlq_view

    results = asyncio.run(_replay(ids, every, drop_stale))
    dlq_view.show_replayed(results, form)
    if any(one.refusal and not one.dropped for one in results):
        raise typer.Exit(1)


@app.command()
def purge(
    ids: Ids = None,
    older_than: Annotated[
        float | None, typer.Option(parser=seconds, metavar="TIME", help="Those published longer ago, such as 7d.")
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="All of them.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    form: AsFormat = Format.TABLE,
) -> None:
    """Delete dead letters for good. A task waits for none of them: their attempts have failed, or are ordered again.

    **Examples**

        treadle dlq purge --older-than 30d
        treadle dlq purge --all --yes
    """
    import asyncio

    from cli.dead_letters import view as dlq_view

    letters = _old(_wanted(ids, every or older_than is not None, asyncio.run(_all())), older_than)
    if letters and not yes:
        _ask(len(letters))
    dlq_view.show_purged(asyncio.run(_purge({letter.id for letter in letters})) if letters else [], form)


def _ask(count: int) -> None:
    """Ask a person; a script has to say --yes."""
    import sys

    from cli.errors import WRONG_INPUT, fail

    if not sys.stdin.isatty():
        fail(f"{count} dead letters would be deleted for good: say --yes", status=WRONG_INPUT)
    typer.confirm(f"Delete {count} dead letters for good?", abort=True)


def _wanted(ids: Sequence[str] | None, every: bool, letters: Sequence[DeadLetter]) -> list[DeadLetter]:
    """The letters that were asked for. Raises InvalidInput where it was not said which, or there is no such one."""
    if bool(ids) == every:
        from contracts.errors import FieldError, InvalidInput

        raise InvalidInput((FieldError(field="ID", message="name dead letters by their ids, or say --all"),))
    return list(letters) if every else _known(ids or (), letters)


def _known(ids: Sequence[str], letters: Sequence[DeadLetter]) -> list[DeadLetter]:
    missing = sorted(set(ids) - {letter.id for letter in letters})
    if missing:
        from contracts.errors import FieldError, InvalidInput

        message = f"there is no dead letter {', '.join(missing)}; `treadle dlq list` shows those there are"
        raise InvalidInput((FieldError(field="ID", message=message),))
    return [letter for letter in letters if letter.id in ids]


def _old(letters: Sequence[DeadLetter], older_than: float | None) -> list[DeadLetter]:
    """Those published longer ago; one that does not say when is never old."""
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
        wanted = {letter.id for letter in _wanted(ids, every, await dead_letters(bus))}
        return await replay(bus, store, lambda letter: letter.id in wanted, drop_spent=drop_stale)


@asynccontextmanager
async def _bus() -> AsyncIterator[Bus]:
    """The broker. Raises InvalidInput for the bus in process, which no other process can look into."""
    from cli.settings import read_settings
    from infra.bus.connect import connect
    from infra.settings import IN_PROCESS

    settings = read_settings()
    if settings.bus_url.get_secret_value() == IN_PROCESS:
        from contracts.errors import FieldError, InvalidInput

        message = "the in-process bus is not seen from outside its process; expected amqp://…"
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
