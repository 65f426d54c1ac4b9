"""`treadle doctor`: check the installation, and print how to fix what is missing."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from cli.options import DEFAULT_URL, Url
from cli.terminal import Terminal, echo, text

if TYPE_CHECKING:
    from cli.doctor.checks import Check


INDENT = " " * 18
"""Stands before the second and later lines of a check."""


class Component(StrEnum):
    """A component that the settings configure."""

    BROKER = "broker"
    DATABASE = "database"
    OBJECT_STORE = "object-store"
    GATEWAY = "gateway"


def doctor(
    only: Annotated[list[Component] | None, typer.Option(help="Check only this component; may be repeated.")] = None,
    url: Url = DEFAULT_URL,
) -> None:
    """Check what is missing or cannot be reached, and print how to fix it.

    It checks this machine, and logs in to the components that the TREADLE_… variables configure. If exchanges or
    queues are missing on the broker, it creates them; it changes nothing else. It also lists the workers that take no
    commands because their machine is broken. The exit status is 1 if a required component or a worker is broken.

    The variables say what is required. With TREADLE_DATABASE_URL, this machine runs control, which needs no extra. With
    TREADLE_BUS_URL or TREADLE_S3_ENDPOINT alone, it runs a worker, which needs no database and no gateway.

    **Examples**

        treadle doctor
        TREADLE_BUS_URL=amqp://guest:guest@127.0.0.1/ treadle doctor --only broker
    """
    import asyncio

    from cli.doctor.checks import component_checks, machine_checks, unfit_worker_checks
    from cli.doctor.extras import extra_checks, unneeded
    from cli.doctor.machine import worker_checks
    from cli.settings import read_settings

    settings = read_settings()
    skipped = {} if only else unneeded(settings, url)
    checked = only or [component for component in Component if component not in skipped]
    broken = 0
    if not only:
        broken += _show("This machine", [*machine_checks(), *extra_checks(settings), *worker_checks(settings)])
    components = asyncio.run(component_checks(settings, url, checked))
    broken += _show("Configured components", [*components, *skipped.values()])
    if Component.GATEWAY in checked:
        unfit = asyncio.run(unfit_worker_checks(url))
        broken += _show("Unfit workers", unfit) if unfit else 0
    if broken:
        echo(f"\n{broken} broken", lines=True, colour="red")
        raise typer.Exit(1)
    echo("\neverything that is required works", lines=True, colour="green")


def _show(title: str, checks: Sequence[Check]) -> int:
    """Print the checks; return the number of broken ones."""
    terminal = Terminal()
    terminal.print(text(title, style="bold"))
    for check in checks:
        detail = text(check.detail.replace("\n", f"\n{INDENT}"), lines=True)
        terminal.print(text("  ", _MARK[check.state.value], " ", (f"{check.name:<14}", "bold"), detail), soft_wrap=True)
        if check.fix and check.state.value != "fine":
            terminal.print(text(f"{INDENT}→ {check.fix}", style="cyan"), soft_wrap=True)
    return sum(check.state.value == "broken" for check in checks)


_MARK = {
    "fine": ("✓", "green"),
    "optional": ("·", "yellow"),
    "broken": ("✗", "red"),
}
