"""`treadle topology`: show or create the exchanges and queues, and create accounts."""

from __future__ import annotations

import typer

from cli.topology import users

app = typer.Typer(no_args_is_help=True, help="Show or create the exchanges, queues and accounts on the broker.")
app.add_typer(users.app, name="users")


@app.command()
def show() -> None:
    """Print the exchanges and queues that Treadle uses, without a connection to the broker.

    **Example**

        treadle topology show
    """
    from rich.table import Table

    from cli.terminal import Terminal
    from contracts.topology import EXCHANGES, QUEUES

    exchanges = Table("exchange", "kind", "carries", box=None, header_style="bold")
    for exchange in EXCHANGES:
        exchanges.add_row(exchange.name, exchange.kind.value, exchange.carries)
    queues = Table("queue", "kind", "exchange", "binding", "dead letters", box=None, header_style="bold")
    for queue in QUEUES:
        queues.add_row(
            queue.name, queue.kind.value, queue.exchange, queue.binding, "kept" if queue.dead_letters else "none"
        )
    Terminal().print(exchanges, "", queues)


@app.command()
def apply() -> None:
    """Create the exchanges and queues on the broker of TREADLE_BUS_URL.

    Existing exchanges and queues stay as they are, so the command may be repeated. Only a queue that an earlier version
    created with other limits is replaced, if it is empty.

    **Example**

        TREADLE_BUS_URL=amqp://guest:guest@127.0.0.1/ treadle topology apply
    """
    import asyncio

    from cli.settings import read_settings
    from cli.terminal import echo
    from contracts.topology import EXCHANGES, QUEUES
    from infra.bus.connect import connect

    settings = read_settings()

    async def declare() -> tuple[str, set[str]]:
        bus = connect(settings)
        await bus.start()
        try:
            return bus.name, await bus.replace_outdated()
        finally:
            await bus.close()

    name, outdated = asyncio.run(declare())
    echo(f"{len(EXCHANGES)} exchanges and {len(QUEUES)} queues are declared on the {name} bus")
    for queue in sorted(outdated):
        echo(f"{queue} keeps the limits of an earlier version: empty it, then run this command again", err=True)
