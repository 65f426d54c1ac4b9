"""What is asked of a task: `treadle start`, `pause`, `resume`, `cancel`, `retry`, `kick` and `fail`."""

from __future__ import annotations

from typing import Annotated

import typer

from cli.durations import START_IN, seconds
from cli.options import DEFAULT_URL, TaskId, Url

Reason = Annotated[str | None, typer.Option(help="Why; it stands in the task's history.")]
Because = Annotated[str, typer.Option("--reason", help="Why; it stands in the task's history.")]

Attempt = Annotated[
    str | None,
    typer.Option(metavar="ITERATION/PHASE/aN", help="Only where the task is at this attempt, such as 1/train/a2."),
]


def start(
    task: TaskId,
    after: Annotated[float | None, typer.Option("--in", parser=seconds, metavar="TIME", help=START_IN)] = None,
    reason: Reason = None,
    url: Url = DEFAULT_URL,
) -> None:
    """Start a PENDING task, now or later.

    Until its start is due, a pause or a cancel holds it; a resume or a kick starts it at once.

    **Example**

        treadle start TASK --in 2h
    """
    _request(url, task, "start", afterSeconds=after, reason=reason)


def pause(
    task: TaskId,
    mode: Annotated[str, typer.Option(help="The running attempt: drain (let it end), checkpoint, or now.")] = "drain",
    reason: Reason = None,
    url: Url = DEFAULT_URL,
) -> None:
    """Pause a running task; nothing more is ordered until it is resumed.

    **Example**

        treadle pause TASK --mode checkpoint --reason "the GPU is needed"
    """
    _request(url, task, "pause", mode=mode, reason=reason)


def resume(task: TaskId, reason: Reason = None, url: Url = DEFAULT_URL) -> None:
    """Go on with a paused task, where it was left off."""
    _request(url, task, "resume", reason=reason)


def cancel(task: TaskId, reason: Reason = None, url: Url = DEFAULT_URL) -> None:
    """End a task; a program that runs for it is stopped. What earlier iterations brought stays."""
    _request(url, task, "cancel", reason=reason)


def retry(
    task: TaskId,
    from_phase: Annotated[str | None, typer.Option(help="optimize, train or evaluate: begin that one afresh.")] = None,
    reason: Reason = None,
    url: Url = DEFAULT_URL,
) -> None:
    """Try a FAILED task again, from where it failed or from a phase of that iteration.

    **Example**

        treadle retry TASK --from-phase train
    """
    _request(url, task, "retry", phase=from_phase, reason=reason)


def kick(task: TaskId, reason: Because, attempt: Attempt = None, url: Url = DEFAULT_URL) -> None:
    """Give up a stuck attempt and issue the next at once, from the newest checkpoint; no failure is spent.

    **Example**

        treadle kick TASK --reason "no step for an hour" --attempt 1/train/a2
    """
    _request(url, task, "kick", reason=reason, attempt=attempt)


def fail(task: TaskId, reason: Because, attempt: Attempt = None, url: Url = DEFAULT_URL) -> None:
    """Give up a stuck attempt and end the task FAILED; `treadle retry` goes on from its checkpoint.

    **Example**

        treadle fail TASK --reason "the data is wrong"
    """
    _request(url, task, "fail", reason=reason, attempt=attempt)


def _request(url: str, task: str, what: str, **body: str | float | None) -> None:
    """Ask for a change of a task and say where it stands then."""
    import asyncio

    from cli.client import Gateway
    from contracts.http import TaskView

    async def ask() -> None:
        given = {name: value for name, value in body.items() if value is not None}
        async with Gateway(url) as gateway:
            answer = TaskView.model_validate(await gateway.post(f"/api/tasks/{task}/{what}", given))
        typer.echo(f"{answer.task_name} is {answer.status}")

    asyncio.run(ask())
