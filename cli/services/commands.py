"""`treadle up`, `control` and `worker`: the commands that run services."""

from __future__ import annotations

import os
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.extras import Extra, require
from cli.options import create_folder
from cli.terminal import echo
from contracts.tasks import Phase

if TYPE_CHECKING:
    from infra.settings import Settings

DEFAULT_FOLDER = Path("~/.treadle/up")
PHASE_OF_WORKER = {phase.worker: phase for phase in Phase}
Port = Annotated[int | None, typer.Option(min=0, max=65535, help="HTTP port of the gateway; 0 takes a free one.")]


class Broker(StrEnum):
    """The bus of the local stack."""

    AUTO = "auto"
    RABBITMQ = "rabbitmq"
    IN_PROCESS = "in-process"


def up(
    folder: Annotated[
        Path, typer.Option(help="Folder for the data of database, object store and broker.")
    ] = DEFAULT_FOLDER,
    port: Port = 8080,
    broker: Annotated[
        Broker, typer.Option(help="auto takes RabbitMQ if it is installed and starts, else in-process.")
    ] = Broker.AUTO,
) -> None:
    """Start all services on this machine, in one process.

    It starts PostgreSQL, an S3 server, a broker, control with its gateway, and three workers. Nothing must be
    installed or configured, all ports are on loopback, and the data in the folder is kept for the next start.
    Ctrl-C stops everything cleanly; a job that was running is issued again at the next start.

    **Examples**

        treadle up
        treadle up --folder /data/treadle --port 9090
    """
    from infra.loop import run
    from infra.private_folders import UMASK

    require("`treadle up`", Extra.LOCAL, Extra.TRAIN)
    os.umask(UMASK)
    run(_up(create_folder(folder, private=True), port, broker))


async def _up(folder: Path, port: int | None, broker: Broker) -> None:
    from cli.services.composition import running, stop_signal
    from infra.logs import configure_logs
    from infra.stack.local import LocalStack

    echo(f"Starting in {folder} …")
    async with LocalStack(folder, broker=broker.value) as stack:
        if stack.notice:
            echo(stack.notice, err=True, colour="yellow")
        settings = stack.settings(http_port=port)
        configure_logs(settings, "treadle")
        async with running(settings, accounts=stack.accounts()) as url:
            for component, address in {**stack.describe(), "gateway": url, "API": f"{url}/docs"}.items():
                echo(f"  {component:<13} {address}")
            echo("Ready. Next: treadle upload, treadle submit, treadle watch. Ctrl-C stops everything.")
            await stop_signal()
            echo("Stopping …")


def control(port: Port = None) -> None:
    """Run one control process with its gateway.

    The variables TREADLE_BUS_URL, TREADLE_DATABASE_URL and TREADLE_S3_… configure its broker, database and object
    store. Several control processes may run at the same time.

    **Example**

        TREADLE_DATABASE_URL=postgresql://treadle:…@db/treadle treadle control --port 8080
    """
    from cli.services.composition import running, stop_signal
    from cli.settings import read_settings
    from infra.logs import configure_logs
    from infra.loop import run

    settings = read_settings({"http_port": port})
    configure_logs(settings, "control")

    async def serve() -> None:
        async with running(settings, phases=()) as url:
            announce(settings, f"control answers at {url}", address=url)
            await stop_signal()

    run(serve())


def announce(settings: Settings, sentence: str, **values: str) -> None:
    """Report on standard error that a service is ready: as a sentence, or as a log event if the logs are JSON."""
    if settings.log_json:
        import structlog

        structlog.get_logger(__name__).info("ready", message=sentence, **values)
    else:
        echo(sentence, err=True)


def _check_kind(kind: str) -> str:
    if kind not in PHASE_OF_WORKER:
        raise typer.BadParameter(f"expected one of {', '.join(PHASE_OF_WORKER)}, found {kind!r}")
    return kind


def worker(
    kind: Annotated[
        str,
        typer.Argument(
            callback=_check_kind, metavar="|".join(PHASE_OF_WORKER), help=f"One of {', '.join(PHASE_OF_WORKER)}."
        ),
    ],
    slots: Annotated[int | None, typer.Option(min=1, help="Number of jobs to run at the same time.")] = None,
) -> None:
    """Run one worker, which executes the commands of one phase.

    The variables TREADLE_BUS_URL and TREADLE_S3_… configure its broker and object store; it needs no database.
    SIGTERM stops it cleanly. Any number of workers may run, on any number of machines.

    **Example**

        TREADLE_BUS_URL=amqp://treadle:…@broker/ treadle worker trainer
    """
    from cli.services.composition import running_worker, stop_signal
    from cli.settings import read_settings
    from infra.logs import configure_logs
    from infra.loop import run
    from infra.private_folders import UMASK

    os.umask(UMASK)
    settings = read_settings({"worker_slots": slots})
    configure_logs(settings, kind)

    async def serve() -> None:
        async with running_worker(settings, PHASE_OF_WORKER[kind]):
            announce(settings, f"the {kind} is ready for commands")
            await stop_signal()

    run(serve())
