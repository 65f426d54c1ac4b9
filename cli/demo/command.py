"""`treadle demo`: the loop at work on real data, through the real services, watched as it goes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.options import made
from cli.services.commands import Broker

if TYPE_CHECKING:
    from cli.demo.run import Demo, Outcome
    from contracts.http import TaskView
    from infra.settings import Settings


class Arm(StrEnum):
    """How rows are drawn from the pool."""

    TARGETED = "targeted"
    RANDOM = "random"
    NONE = "none"


def demo(
    arm: Annotated[
        Arm, typer.Option(help="Draw rows toward the weak slices, at random, or not at all.")
    ] = Arm.TARGETED,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same data and the same draws.")] = 1,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the stack running at the end, to look around.")] = False,
    folder: Annotated[Path | None, typer.Option(help="Where everything is put; a fresh folder by default.")] = None,
    broker: Annotated[Broker, typer.Option(help="auto: RabbitMQ where it is on this machine.")] = Broker.AUTO,
) -> None:
    """Watch a small language model get better at answering a bank's support questions.

    Starts everything here (nothing is downloaded), makes and pretrains a tiny model, then lets the loop better it
    for five iterations, from a dirty start of some 280 rows. Ends with a table, a curve (PNG and terminal) and, as
    the last line of standard output, one JSON object. It takes about three minutes on two cores.

    **Examples**

        treadle demo
        treadle demo --arm random --seed 2
    """
    import asyncio
    import tempfile

    from cli.demo.run import Demo

    place = made(folder) if folder else Path(tempfile.mkdtemp(prefix="treadle-demo-"))
    outcome = asyncio.run(_run(Demo(arm.value, seed, place), broker, keep))
    typer.echo(outcome.as_json())


async def _run(demo: Demo, broker: Broker, keep: bool) -> Outcome:
    from rich.console import Console

    from cli.client import Gateway
    from cli.demo.report import report
    from cli.demo.run import prepared, run
    from cli.services.composition import running, told_to_stop
    from cli.tasks.watch import follow
    from infra.stack.local import LocalStack

    console = Console(highlight=False)
    console.print(f"[bold]Treadle demo[/]: BANKING77, arm {demo.arm}, seed {demo.seed}, under {demo.folder}")
    async with prepared(demo) as ready, LocalStack(demo.folder / "stack", broker=broker.value) as stack:
        parts = stack.describe()
        console.print(" · ".join(f"{name.replace('_', ' ')}: {what}" for name, what in parts.items()))
        settings = stack.settings(http_port=0)
        with _logged(settings, demo.folder / "treadle.log"):
            async with running(settings) as url, Gateway(url) as gateway:

                async def shown(task: TaskView) -> None:
                    board = await follow(gateway, str(task.task_id), console, transient=True)
                    console.print(f"{board.name}: {board.status}, {len(board.iterations)} turn(s)")

                outcome = await run(ready, gateway, parts, shown)
                report(console, outcome)
                if keep:
                    console.print(f"Still running: {url}/docs, treadle tasks --url {url}. Ctrl-C ends it.")
                    await told_to_stop()
    return outcome


@contextmanager
def _logged(settings: Settings, file: Path) -> Iterator[None]:
    """Send this process's log lines to a file, so that they do not tear the display."""
    from infra.logs import configure_logs

    with file.open("a", encoding="utf-8") as lines:
        with redirect_stderr(lines):
            configure_logs(settings, "demo")
        yield
