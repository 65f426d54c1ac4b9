"""Commands that change a task: `treadle start`, `pause`, `resume`, `cancel`, `retry`, `kick` and `fail`."""

from __future__ import annotations

from typing import Annotated

import typer

from cli.durations import START_IN, seconds
from cli.options import DEFAULT_URL, TaskId, Url
from cli.terminal import echo

Reason = Annotated[str | None, typer.Option(help="Why you do this; stored in the task's history.")]
RequiredReason = Annotated[str, typer.Option("--reason", help="Why you do this; stored in the task's history.")]

Attempt = Annotated[
    str | None,
    typer.Option(metavar="ITERATION/PHASE/aN", help="Refuse if this is not the current attempt, e.g. 1/train/a2."),
]


def start(
    task: TaskId,
    after: Annotated[float | None, typer.Option("--in", parser=seconds, metavar="TIME", help=START_IN)] = None,
    reason: Reason = None,
    url: Url = DEFAULT_URL,
) -> None:
    """Start a PENDING task, now or after a delay.

    Before a delayed start is due, `treadle pause` or `treadle cancel` prevents it, and `treadle kick` starts the task
    at once; so does `treadle resume` after a pause.

    **Examples**

        treadle start TASK
        treadle start TASK --in 2h
    """
    _request(url, task, "start", afterSeconds=after, reason=reason)


def pause(
    task: TaskId,
    mode: Annotated[str, typer.Option(help="End of the running attempt: drain, checkpoint or now.")] = "drain",
    reason: Reason = None,
    url: Url = DEFAULT_URL,
) -> None:
    """Pause a task: no new attempt is issued until `treadle resume`.

    --mode decides what happens to the running attempt. drain lets it finish; checkpoint stops it after it has written
    a checkpoint; now stops it at once. A paused task may be paused again in another mode.

    **Examples**

        treadle pause TASK
        treadle pause TASK --mode checkpoint --reason "the GPU is needed"
    """
    _request(url, task, "pause", mode=mode, reason=reason)


def resume(task: TaskId, reason: Reason = None, url: Url = DEFAULT_URL) -> None:
    """Continue a paused task from the point where it was paused.

    If the pause stopped the attempt, a new attempt continues from the newest checkpoint.

    **Example**

        treadle resume TASK
    """
    _request(url, task, "resume", reason=reason)


def cancel(task: TaskId, reason: Reason = None, url: Url = DEFAULT_URL) -> None:
    """End a task and stop its running program; the results of completed iterations are kept.

    A cancelled task cannot be resumed or retried.

    **Example**

        treadle cancel TASK --reason "wrong dataset"
    """
    _request(url, task, "cancel", reason=reason)


def retry(
    task: TaskId,
    from_phase: Annotated[
        str | None, typer.Option(help="Start this phase from its beginning: optimize, train or evaluate.")
    ] = None,
    reason: Reason = None,
    url: Url = DEFAULT_URL,
) -> None:
    """Retry a FAILED task, from the phase that failed or from an earlier one.

    Without --from-phase, the failed phase continues from its newest checkpoint, if it has one. With --from-phase, that
    phase of the same iteration starts from its beginning; it may be the failed phase or one before it.

    **Examples**

        treadle retry TASK
        treadle retry TASK --from-phase train
    """
    _request(url, task, "retry", phase=from_phase, reason=reason)


def kick(task: TaskId, reason: RequiredReason, attempt: Attempt = None, url: Url = DEFAULT_URL) -> None:
    """Stop a stuck attempt and issue the next one at once, from the newest checkpoint.

    This does not count as a failure of the phase. With --attempt, the request is refused if the task is at another
    attempt.

    **Example**

        treadle kick TASK --reason "no step for an hour" --attempt 1/train/a2
    """
    _request(url, task, "kick", reason=reason, attempt=attempt)


def fail(task: TaskId, reason: RequiredReason, attempt: Attempt = None, url: Url = DEFAULT_URL) -> None:
    """Stop a stuck attempt and end the task FAILED; `treadle retry` continues from its newest checkpoint.

    With --attempt, the request is refused if the task is at another attempt.

    **Example**

        treadle fail TASK --reason "the data is wrong"
    """
    _request(url, task, "fail", reason=reason, attempt=attempt)


def _request(url: str, task: str, action: str, **body: str | float | None) -> None:
    """Send the request to the gateway and print the new status of the task."""
    import asyncio

    from cli.client import GatewayClient
    from contracts.http import TaskView

    async def send() -> None:
        given = {name: value for name, value in body.items() if value is not None}
        async with GatewayClient(url) as gateway:
            answer = TaskView.model_validate(await gateway.post(f"/api/tasks/{task}/{action}", given))
        echo(f"{answer.task_name} is {answer.status}")

    asyncio.run(send())
