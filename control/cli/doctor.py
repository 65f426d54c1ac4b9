"""`treadle doctor`: what is there and what is not, each with the command that mends it."""

from __future__ import annotations

import typer

from control.cli.options import DEFAULT_URL, Url


def doctor(url: Url = DEFAULT_URL) -> None:
    """Check this machine and the parts that TREADLE_* name; say what is broken and how to mend it.

    Nothing is changed. The exit status is 1 if something that is needed is broken.

    [bold]Example:[/] TREADLE_BUS_URL=amqp://guest:guest@127.0.0.1/ treadle doctor
    """
    import asyncio

    from rich.console import Console

    from control.cli.checks import State, here, parts
    from control.cli.settings import read_settings

    console = Console()
    settings = read_settings()
    broken = 0
    for title, checks in (("This machine", here()), ("Configured parts", asyncio.run(parts(settings, url)))):
        console.print(f"[bold]{title}[/]")
        for check in checks:
            console.print(f"  {_MARK[check.state.value]} [bold]{check.name:<14}[/] {check.found}", highlight=False)
            if check.mend and check.state is not State.FINE:
                console.print(f"    [cyan]→ {check.mend}[/]", highlight=False)
            broken += check.state is State.BROKEN
    if broken:
        console.print(f"\n[red]{broken} broken[/]")
        raise typer.Exit(1)
    console.print("\n[green]all that is needed is there[/]")


_MARK = {"fine": "[green]✓[/]", "optional": "[yellow]·[/]", "broken": "[red]✗[/]"}
