"""`treadle demo`: run the loop on sample data through the real services, and show its progress."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.extras import Extra, require
from cli.options import create_folder
from cli.services.commands import Broker
from cli.terminal import Terminal, echo, text
from contracts.options import Arm
from contracts.tasks import Phase

if TYPE_CHECKING:
    from cli.demo.run import Demo, DemoResult
    from contracts.http import TaskView
    from infra.settings import Settings


def demo(
    arm: Annotated[
        Arm, typer.Option(help="How rows are drawn from the pool: for weak slices, at random, or none.")
    ] = Arm.TARGETED,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same data and draws.")] = 1,
    keep: Annotated[bool, typer.Option("--keep", help="Keep the services running at the end.")] = False,
    folder: Annotated[
        Path | None, typer.Option(help="Empty folder for all files; a new temporary one by default.")
    ] = None,
    broker: Annotated[
        Broker, typer.Option(help="auto takes RabbitMQ if it is installed and starts, else in-process.")
    ] = Broker.AUTO,
) -> None:
    """Watch a small language model learn to answer a bank's support questions.

    The demo starts all services on this machine and downloads nothing. It creates and pretrains a tiny model, then
    improves it in five iterations, from a start set of about 280 rows with many errors. It ends with a table, a chart
    (in the terminal and as PNG) and, as the last line of standard output, one JSON object. It takes a few minutes on
    two CPU cores.

    **Examples**

        treadle demo
        treadle demo --arm random --seed 2
    """
    import asyncio
    import tempfile

    from cli.demo.run import Demo

    require("`treadle demo`", *Extra)
    path = create_folder(folder, private=True) if folder else Path(tempfile.mkdtemp(prefix="treadle-demo-"))
    outcome = asyncio.run(_run(Demo(arm.value, seed, path), broker, keep))
    echo(outcome.as_json())


async def _run(demo: Demo, broker: Broker, keep: bool) -> DemoResult:
    from cli.client import GatewayClient
    from cli.demo.report import report
    from cli.demo.run import TINY_BASE, prepared, run
    from cli.services.composition import running, started_fork_server, stop_signal
    from cli.tasks.watch import follow
    from infra.stack.local import LocalStack

    terminal = Terminal()
    title = f": BANKING77, arm {demo.arm}, seed {demo.seed}, under {demo.folder}"
    terminal.print(text(("Treadle demo", "bold"), title))
    async with (
        started_fork_server(tuple(Phase), TINY_BASE) as fork_server,
        prepared(demo, fork_server) as ready,
        LocalStack(demo.folder / "stack", broker=broker.value) as stack,
    ):
        if stack.notice:
            terminal.print(text(stack.notice, style="yellow"), soft_wrap=True)
        parts = stack.describe()
        terminal.print(" · ".join(f"{name.replace('_', ' ')}: {value}" for name, value in parts.items()))
        settings = stack.settings(http_port=0)
        with _log_to_file(settings, demo.folder / "treadle.log"):
            async with (
                running(settings, accounts=stack.accounts(), fork_server=fork_server) as url,
                GatewayClient(url) as gateway,
            ):

                async def show_progress(task: TaskView) -> None:
                    board = await follow(gateway, str(task.task_id), terminal, transient=True)
                    terminal.print(f"{board.name}: {board.status}, iterations: {len(board.iterations)}")

                outcome = await run(ready, gateway, parts, show_progress)
                report(terminal, outcome)
                if keep:
                    terminal.print(
                        f"The services keep running: {url}/docs, treadle tasks --url {url}. Ctrl-C stops them."
                    )
                    await stop_signal()
    return outcome


@contextmanager
def _log_to_file(settings: Settings, file: Path) -> Iterator[None]:
    """Write the log of this process to a file, so that its lines do not disturb the display."""
    from infra.logs import configure_logs

    with file.open("a", encoding="utf-8") as lines:
        with redirect_stderr(lines):
            configure_logs(settings, "demo")
        yield
