"""`treadle trace`: where the time of an iteration went."""

from __future__ import annotations

from typing import Annotated

import typer

from cli.options import DEFAULT_URL, AsJson, TaskId, Url
from cli.terminal import echo_json


def trace(
    task: TaskId,
    iteration: Annotated[int | None, typer.Option(min=1, help="Iteration to draw; the newest by default.")] = None,
    url: Url = DEFAULT_URL,
    as_json: AsJson = False,
) -> None:
    """Draw where the time of one iteration went: its phases, their attempts, and how long each waited, ran and worked.

    All times come from the database, so this needs no collector. A collector, if there is one (TREADLE_OTLP_ENDPOINT),
    has the same spans under the trace id that is printed. wait is the time in the queue; run begins when a worker
    takes the attempt; work is the part of it in which the program itself ran, without imports and transfers. Below
    the tree stands why attempts failed or were lost. --json prints the spans.

    **Examples**

        treadle trace 1b9d6bcd-bbfd-4b2d-9b5d-ab8dfbbd4bed

        treadle trace 1b9d6bcd-bbfd-4b2d-9b5d-ab8dfbbd4bed --iteration 2
    """
    import asyncio

    from cli.client import GatewayClient
    from cli.trace.view import show_trace
    from contracts.traces import TraceView

    async def show() -> None:
        async with GatewayClient(url) as gateway:
            number = iteration or max(1, (await gateway.task(task)).current_iteration)
            answer = TraceView.model_validate(await gateway.get(f"/api/tasks/{task}/iterations/{number}/trace"))
        echo_json(answer) if as_json else show_trace(answer)

    asyncio.run(show())
