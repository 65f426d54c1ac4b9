"""`treadle submit`, `tasks` and `show`: tasks are made, listed and looked at."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from cli.durations import START_IN, seconds, spoken
from cli.options import DEFAULT_URL, AsJson, TaskId, Url


def submit(
    ctx: typer.Context,
    model: Annotated[
        str | None, typer.Option(help="A path, a hub id, a configured name, or task:ID/ITERATION.")
    ] = None,
    dataset: Annotated[str | None, typer.Option(help="A dataset's id, as `treadle upload` printed it.")] = None,
    name: Annotated[str | None, typer.Option(help="What to call the task.")] = None,
    file: Annotated[Path | None, typer.Option(exists=True, dir_okay=False, help="The body as JSON.")] = None,
    continuous: Annotated[bool | None, typer.Option("--continuous/--standard", help="Loop, or once through.")] = None,
    dev: Annotated[str | None, typer.Option(help="The dataset whose bad cases feed the optimizer.")] = None,
    test: Annotated[str | None, typer.Option(help="The sealed dataset: only numbers leave it.")] = None,
    pool: Annotated[str | None, typer.Option(help="The dataset that rows may be drawn from.")] = None,
    stage: Annotated[str | None, typer.Option(help="pt (plain text) or sft (answers).")] = None,
    method: Annotated[str | None, typer.Option(help="full or lora.")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Peak learning rate.")] = None,
    epochs: Annotated[float | None, typer.Option(help="Passes over the rows.")] = None,
    metric: Annotated[str | None, typer.Option(help="exact_match, token_f1, rouge_l or perplexity.")] = None,
    arm: Annotated[str | None, typer.Option(help="Rows from the pool: targeted, random or none.")] = None,
    label_budget: Annotated[int | None, typer.Option(help="Rows that one iteration may draw.")] = None,
    iterations: Annotated[int | None, typer.Option(help="At most so many turns of the loop.")] = None,
    threshold: Annotated[float | None, typer.Option(help="Stop at this dev score, between 0 and 1.")] = None,
    plateau: Annotated[int | None, typer.Option(help="Stop after so many iterations without gain.")] = None,
    seed: Annotated[int | None, typer.Option(help="The same seed gives the same splits and draws.")] = None,
    start: Annotated[bool | None, typer.Option("--start/--no-start", help="Start it at once.")] = None,
    start_in: Annotated[float | None, typer.Option(parser=seconds, metavar="TIME", help=START_IN)] = None,
    key: Annotated[str | None, typer.Option("--key", help="Idempotency key: the same request is done once.")] = None,
    user: Annotated[
        int | None, typer.Option(min=0, envvar="TREADLE_USER", help="On whose behalf; 1 by default.")
    ] = None,
    url: Url = DEFAULT_URL,
    as_json: AsJson = False,
) -> None:
    """Create a task, from options, from a JSON file, or from a file with options on top.

    The file holds the body of POST /api/tasks/standard or /continuous, in camelCase or snake_case; "mode" in it
    says which. What has no option here (max_length, lora_rank, …) is set in the file.

    **Examples**

        treadle submit --model org/model --dataset ID --name "bank answers" --start
        treadle submit --file task.json --continuous --iterations 5 --threshold 0.9 --start-in 2h
    """
    import asyncio

    from cli.tasks.submission import body_of

    mode, body = body_of(file, ctx.params, continuous)
    asyncio.run(_create(url, mode, body, key, as_json))


async def _create(url: str, mode: str, body: dict[str, Any], key: str | None, as_json: bool) -> None:
    """Create the task and say what to do next."""
    from cli.client import Gateway

    async with Gateway(url) as gateway:
        task = await gateway.submit(mode, body, key=key)
    if as_json:
        typer.echo(task.model_dump_json(by_alias=True))
        return
    typer.echo(task.task_id)
    then = "watch" if body.get("auto_start") else "start"
    after = body.get("start_after_seconds")
    stands = f"starts in {spoken(after)}" if after else f"is {task.status}"
    typer.echo(f"{task.task_name} {stands}; next: treadle {then} {task.task_id}", err=True)


def tasks(
    status: Annotated[str | None, typer.Option(help="Only those: PENDING, TRAINING, COMPLETED, FAILED, …")] = None,
    user: Annotated[int | None, typer.Option(help="Only this user's.")] = None,
    page: Annotated[int, typer.Option(min=1)] = 1,
    size: Annotated[int, typer.Option(min=1, max=100)] = 20,
    url: Url = DEFAULT_URL,
    as_json: AsJson = False,
) -> None:
    """List tasks, newest first.

    **Example**

        treadle tasks --status FAILED
    """
    import asyncio
    import json

    from cli.client import Gateway
    from cli.tasks import view as task_view
    from contracts.http import TaskPage

    async def show_page() -> None:
        async with Gateway(url) as gateway:
            wanted = status.upper() if status else None
            answer = await gateway.get("/api/tasks", status=wanted, userId=user, page=page, pageSize=size)
        typer.echo(json.dumps(answer)) if as_json else task_view.show_page(TaskPage.model_validate(answer))

    asyncio.run(show_page())


def show(task: TaskId, url: Url = DEFAULT_URL, as_json: AsJson = False) -> None:
    """Show one task: where it stands, why it waits, what each iteration brought, every attempt.

    **Example**

        treadle show 1b9d6bcd-bbfd-4b2d-9b5d-ab8dfbbd4bed
    """
    import asyncio

    from pydantic import TypeAdapter

    from cli.client import Gateway
    from cli.tasks import view as task_view
    from contracts.http import ExecutionView

    async def show_task() -> None:
        async with Gateway(url) as gateway:
            found = await gateway.task(task)
            answer = await gateway.get(f"/api/tasks/{task}/executions")
        if as_json:
            typer.echo(found.model_dump_json(by_alias=True))
        else:
            task_view.show_task(found, TypeAdapter(list[ExecutionView]).validate_python(answer))

    asyncio.run(show_task())
