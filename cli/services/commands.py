"""`treadle up`, `control` and `worker`: the services themselves."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from cli.options import made
from contracts.tasks import Phase

HOME = Path("~/.treadle/up")
WORKERS = {phase.worker: phase for phase in Phase}
Port = Annotated[int | None, typer.Option(min=0, max=65535, help="Where HTTP answers; 0 takes a free one.")]


class Broker(StrEnum):
    """Which bus the local stack runs on."""

    AUTO = "auto"
    RABBITMQ = "rabbitmq"
    IN_PROCESS = "in-process"


def up(
    folder: Annotated[Path, typer.Option(help="Where database, artifacts and broker keep what they have.")] = HOME,
    port: Port = 8080,
    broker: Annotated[Broker, typer.Option(help="auto: RabbitMQ where it is on this machine.")] = Broker.AUTO,
) -> None:
    """Start everything on this machine, in one process.

    That is PostgreSQL, an S3 server, a broker, control with its gateway, and three workers. Nothing needs to be
    installed or configured, all ports are on loopback, and what is in the folder is still there the next time.
    Ctrl-C stops it cleanly; a job that runs then is ordered again at the next start.

    **Examples**

        treadle up
        treadle up --folder /data/treadle --port 9090
    """
    from infra.loop import run

    run(_up(made(folder), port, broker))


async def _up(folder: Path, port: int | None, broker: Broker) -> None:
    from cli.services.composition import running, told_to_stop
    from infra.logs import configure_logs
    from infra.stack.local import LocalStack

    typer.echo(f"Starting in {folder} …")
    async with LocalStack(folder, broker=broker.value) as stack:
        settings = stack.settings(http_port=port)
        configure_logs(settings, "treadle")
        async with running(settings) as url:
            for part, where in {**stack.describe(), "gateway": url, "API": f"{url}/docs"}.items():
                typer.echo(f"  {part:<13} {where}")
            typer.echo("Ready: treadle upload, treadle submit, treadle watch. Ctrl-C stops it.")
            await told_to_stop()
            typer.echo("Stopping …")


def control(port: Port = None) -> None:
    """Run one control process with its gateway.

    TREADLE_BUS_URL, TREADLE_DATABASE_URL and TREADLE_S3_… name the parts that it runs on. Any number of control
    processes may run side by side.

    **Example**

        TREADLE_DATABASE_URL=postgresql://treadle:…@db/treadle treadle control --port 8080
    """
    from cli.services.composition import running, told_to_stop
    from cli.settings import read_settings
    from infra.logs import configure_logs
    from infra.loop import run

    settings = read_settings({"http_port": port})
    configure_logs(settings, "control")

    async def serve() -> None:
        async with running(settings, phases=()) as url:
            typer.echo(f"control answers at {url}", err=True)
            await told_to_stop()

    run(serve())


def _known(kind: str) -> str:
    if kind not in WORKERS:
        raise typer.BadParameter(f"{kind!r} is not one of {', '.join(WORKERS)}")
    return kind


def worker(
    kind: Annotated[str, typer.Argument(callback=_known, help=f"One of {', '.join(WORKERS)}.")],
    slots: Annotated[int | None, typer.Option(min=1, help="Jobs at the same time.")] = None,
) -> None:
    """Run one worker.

    TREADLE_BUS_URL and TREADLE_S3_… name the broker and the object store that it runs on. It needs no database.
    SIGTERM stops it cleanly; start as many as there are machines.

    **Example**

        TREADLE_BUS_URL=amqp://treadle:…@broker/ treadle worker trainer
    """
    from cli.services import composition as stack
    from cli.settings import read_settings
    from infra.logs import configure_logs
    from infra.loop import run

    settings = read_settings({"worker_slots": slots})
    configure_logs(settings, kind)

    async def serve() -> None:
        async with stack.running_worker(settings, WORKERS[kind]):
            typer.echo(f"the {kind} takes commands", err=True)
            await stack.told_to_stop()

    run(serve())
