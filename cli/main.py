"""The command `treadle`. Each command imports its dependencies when it runs, so that --help stays fast."""

from __future__ import annotations

from collections.abc import Callable

import typer

from cli import requests, retention, verify
from cli.check import command as check
from cli.dead_letters import commands as dlq
from cli.demo import command as demo
from cli.doctor import command as doctor
from cli.download import command as download
from cli.errors import ReadableErrors
from cli.logs import command as logs
from cli.services import commands as serve
from cli.tasks import commands as tasks
from cli.tasks import upload, watch
from cli.topology import commands as topology
from cli.trace import command as trace

app = typer.Typer(
    cls=ReadableErrors,
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_show_locals=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def treadle() -> None:
    """Improve a language model in a loop: optimize the data, train, evaluate, and repeat with the results.

    First steps: `treadle demo` runs the loop on sample data; `treadle up` starts all services on this machine;
    `treadle doctor` prints what is missing. The commands for tasks send HTTP requests to the gateway, whose address
    is --url or the variable TREADLE_URL.
    """


COMMANDS: dict[str, tuple[Callable[..., None], ...]] = {
    "Run services": (demo.demo, serve.up, serve.control, serve.worker),
    "Create and control tasks": (
        check.check,
        upload.upload,
        tasks.submit,
        requests.start,
        requests.pause,
        requests.resume,
        requests.cancel,
    ),
    "Inspect tasks": (tasks.tasks, tasks.show, watch.watch, trace.trace, logs.logs, download.download),
    "Repair and clean up": (
        requests.retry,
        requests.kick,
        requests.fail,
        retention.retention,
        verify.verify,
        doctor.doctor,
    ),
}
"""The commands in each panel of --help."""

for panel, commands in COMMANDS.items():
    for command in commands:
        app.command(rich_help_panel=panel)(command)
app.add_typer(dlq.app, name="dlq", rich_help_panel="Repair and clean up")
app.add_typer(topology.app, name="topology", rich_help_panel="Repair and clean up")
