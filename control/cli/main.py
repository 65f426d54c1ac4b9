"""The command `treadle`. Commands import what they need when they run, so that --help is instant."""

from __future__ import annotations

import typer

from control.cli import demo, doctor, serve, tasks, topology, upload, watch
from control.cli.errors import Readable

app = typer.Typer(
    cls=Readable,
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_show_locals=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def treadle() -> None:
    """Make a language model better in a closed loop: optimise the data, train, evaluate, feed back, again.

    First steps: [bold]treadle demo[/] shows the loop at work on real data; [bold]treadle up[/] starts everything
    here; [bold]treadle doctor[/] says what is missing. Other commands talk to the gateway at --url.
    """


for command in (demo.demo, serve.up, serve.control, serve.worker):
    app.command(rich_help_panel="Run")(command)
for command in (upload.upload, tasks.submit, tasks.start, tasks.pause, tasks.resume, tasks.cancel, tasks.retry):
    app.command(rich_help_panel="Ask")(command)
for command in (tasks.tasks, tasks.show, watch.watch):
    app.command(rich_help_panel="Look")(command)
app.command(rich_help_panel="Mend")(doctor.doctor)
app.add_typer(topology.app, name="topology", rich_help_panel="Mend")
