"""The command `treadle`. Commands import what they need when they run, so that --help is instant."""

from __future__ import annotations

from collections.abc import Callable

import typer

from cli import requests, retention, topology
from cli.dead_letters import commands as dlq
from cli.demo import command as demo
from cli.doctor import command as doctor
from cli.errors import Readable
from cli.services import commands as serve
from cli.tasks import commands as tasks
from cli.tasks import upload, watch

app = typer.Typer(
    cls=Readable,
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_show_locals=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def treadle() -> None:
    """Make a language model better in a closed loop: optimise the data, train, evaluate, feed back, again.

    First steps: `treadle demo` shows the loop at work on real data; `treadle up` starts everything
    here; `treadle doctor` says what is missing. Other commands talk to the gateway at --url.
    """


COMMANDS: dict[str, tuple[Callable[..., None], ...]] = {
    "Run": (demo.demo, serve.up, serve.control, serve.worker),
    "Ask": (upload.upload, tasks.submit, requests.start, requests.pause, requests.resume, requests.cancel),
    "Look": (tasks.tasks, tasks.show, watch.watch),
    "Mend": (requests.retry, requests.kick, requests.fail, retention.retention, doctor.doctor),
}
"""Commands by the panel of --help that they stand in."""

for panel, commands in COMMANDS.items():
    for command in commands:
        app.command(rich_help_panel=panel)(command)
app.add_typer(dlq.app, name="dlq", rich_help_panel="Mend")
app.add_typer(topology.app, name="topology", rich_help_panel="Mend")
