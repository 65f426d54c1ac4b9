"""`treadle logs`: print and follow the logs of a task's programs."""

from __future__ import annotations

from typing import Annotated

import typer

from cli.options import DEFAULT_URL, TaskId, Url

MAX_LINES = 1_000_000


def logs(
    task: TaskId,
    attempt: Annotated[
        str | None,
        typer.Option(metavar="ITERATION/PHASE/aN", help="Of this attempt, e.g. 1/train/a2; by default the newest log."),
    ] = None,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Print what is added, until the attempt or the task has ended.")
    ] = False,
    tail: Annotated[
        int | None, typer.Option(min=0, max=MAX_LINES, metavar="LINES", help="Only the last lines; by default all.")
    ] = None,
    raw: Annotated[bool, typer.Option("--raw", help="The bytes as they are stored, for a file or a pipe.")] = False,
    url: Url = DEFAULT_URL,
) -> None:
    """Print the log of an attempt: what its program wrote to standard error, with secrets masked.

    A worker uploads the log every 30 seconds while the program runs, and at its end, also if the attempt failed. Of
    more than 20 MB the middle is left out. `treadle show TASK` lists the attempts. With --follow and without
    --attempt, the logs of the next attempts are printed too, until the task has ended; Ctrl-C ends only this command.

    **Examples**

        treadle logs TASK
        treadle logs TASK --follow --tail 20
        treadle logs TASK --attempt 1/train/a2
        treadle logs TASK --attempt 1/train/a2 --raw > log.txt
    """
    import asyncio

    from cli.client import GatewayClient
    from cli.logs.output import output_of
    from cli.logs.reading import LogReader

    output = output_of(raw=raw, follow=follow)

    async def run() -> None:
        async with GatewayClient(url) as gateway:
            reader = LogReader(gateway, task, output, tail)
            await (reader.follow(attempt) if follow else reader.show(attempt))

    asyncio.run(run())
