"""`treadle doctor`: what is there and what is not, each with the command that mends it."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from cli.options import DEFAULT_URL, Url

if TYPE_CHECKING:
    from cli.doctor.checks import Check


class Part(StrEnum):
    """What the settings name."""

    BROKER = "broker"
    DATABASE = "database"
    OBJECT_STORE = "object-store"
    GATEWAY = "gateway"


def doctor(
    only: Annotated[list[Part] | None, typer.Option(help="Check this part alone; may be given again.")] = None,
    url: Url = DEFAULT_URL,
) -> None:
    """Say what is reachable and what is not, and how to mend it.

    Looks at this machine, and logs in to the parts that TREADLE_… name. The topology is declared on the broker
    where it is missing; nothing else is changed. The exit status is 1 if something that is needed is broken.

    **Example**

        TREADLE_BUS_URL=amqp://guest:guest@127.0.0.1/ treadle doctor --only broker
    """
    import asyncio

    from cli.doctor.checks import here, parts
    from cli.settings import read_settings

    settings = read_settings()
    broken = 0 if only else _show("This machine", here())
    broken += _show("Configured parts", asyncio.run(parts(settings, url, only or ())))
    if broken:
        typer.secho(f"\n{broken} broken", fg=typer.colors.RED)
        raise typer.Exit(1)
    typer.secho("\nall that is needed is there", fg=typer.colors.GREEN)


def _show(title: str, checks: Sequence[Check]) -> int:
    """Print the checks; how many of them found something broken."""
    typer.secho(title, bold=True)
    for check in checks:
        typer.echo(f"  {_MARK[check.state.value]} {typer.style(f'{check.name:<13}', bold=True)} {check.found}")
        if check.mend and check.state.value != "fine":
            typer.secho(f"                → {check.mend}", fg=typer.colors.CYAN)
    return sum(check.state.value == "broken" for check in checks)


_MARK = {
    "fine": typer.style("✓", fg=typer.colors.GREEN),
    "optional": typer.style("·", fg=typer.colors.YELLOW),
    "broken": typer.style("✗", fg=typer.colors.RED),
}
