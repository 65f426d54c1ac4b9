"""`treadle submit`, `tasks` and `show`: create, list and show tasks."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from cli.durations import LIMIT, STALL_LIMIT, START_IN, format_duration, limit, seconds
from cli.options import DEFAULT_URL, AsJson, TaskId, Url
from cli.terminal import echo, echo_json


def submit(
    ctx: typer.Context,
    model: Annotated[
        str | None, typer.Option(help="Base model: a path, a hub id, a name of TREADLE_MODELS, or task:ID/ITERATION.")
    ] = None,
    dataset: Annotated[str | None, typer.Option(help="Id of the dataset, as printed by `treadle upload`.")] = None,
    name: Annotated[str | None, typer.Option(help="Name of the task.")] = None,
    file: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="JSON file with the request body.")
    ] = None,
    continuous: Annotated[
        bool | None, typer.Option("--continuous/--standard", help="Loop, or run each phase once.")
    ] = None,
    dev: Annotated[str | None, typer.Option(help="Dev dataset: its bad cases guide the optimizer.")] = None,
    test: Annotated[str | None, typer.Option(help="Sealed test dataset: only its scores are reported.")] = None,
    pool: Annotated[str | None, typer.Option(help="Dataset from which the optimizer may draw rows.")] = None,
    stage: Annotated[str | None, typer.Option(help="pt (train on plain text) or sft (train on answers).")] = None,
    method: Annotated[str | None, typer.Option(help="full (train all weights) or lora.")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Peak learning rate.")] = None,
    epochs: Annotated[float | None, typer.Option(help="Training passes over the rows.")] = None,
    metric: Annotated[str | None, typer.Option(help="Score: exact_match, token_f1, rouge_l or perplexity.")] = None,
    max_new_tokens: Annotated[
        int | None, typer.Option(help="Maximum tokens of a generated answer; by default as the references need.")
    ] = None,
    answers: Annotated[
        str | None, typer.Option(help="What the answers are: labels, text or auto. Only labels can conflict.")
    ] = None,
    max_loss: Annotated[
        float | None, typer.Option(help="Fail if one rule would remove more than this share of the rows, 0 to 1.")
    ] = None,
    tidy: Annotated[
        bool | None, typer.Option("--tidy/--no-tidy", help="Rewrite texts: composed Unicode, no surplus white space.")
    ] = None,
    merge_spellings: Annotated[
        bool | None,
        typer.Option("--merge-spellings/--keep-spellings", help="Write each label in its most frequent spelling."),
    ] = None,
    arm: Annotated[str | None, typer.Option(help="How rows are drawn from the pool: targeted, random or none.")] = None,
    label_budget: Annotated[int | None, typer.Option(help="Maximum number of rows that one iteration draws.")] = None,
    iterations: Annotated[int | None, typer.Option(help="Maximum number of iterations.")] = None,
    threshold: Annotated[
        float | None, typer.Option(help="Stop when the dev score reaches this value, between 0 and 1.")
    ] = None,
    plateau: Annotated[
        int | None, typer.Option(help="Stop after this many iterations without a significant gain.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="The same seed gives the same splits and draws.")] = None,
    start: Annotated[bool | None, typer.Option("--start/--no-start", help="Start the task at once.")] = None,
    start_in: Annotated[float | None, typer.Option(parser=seconds, metavar="TIME", help=START_IN)] = None,
    optimize_limit: Annotated[float | None, typer.Option(parser=limit, metavar="TIME", help=LIMIT)] = None,
    train_limit: Annotated[float | None, typer.Option(parser=limit, metavar="TIME", help=LIMIT)] = None,
    evaluate_limit: Annotated[float | None, typer.Option(parser=limit, metavar="TIME", help=LIMIT)] = None,
    stall_limit: Annotated[float | None, typer.Option(parser=limit, metavar="TIME", help=STALL_LIMIT)] = None,
    key: Annotated[
        str | None, typer.Option("--key", help="Idempotency key: a repeated request creates no second task.")
    ] = None,
    user: Annotated[
        int | None, typer.Option(min=0, envvar="TREADLE_USER", help="Id of the user who owns it; 1 by default.")
    ] = None,
    url: Url = DEFAULT_URL,
    as_json: AsJson = False,
) -> None:
    """Create a task from options, from a JSON file, or from both; options override the file.

    The file holds the body of POST /api/tasks/standard or /continuous, in camelCase or snake_case, and may set "mode"
    to STANDARD or CONTINUOUS. --iterations, --threshold and --plateau imply --continuous. Settings without an option
    here (max_length, lora_rank, …) can be set in the file.

    **Examples**

        treadle submit --model org/model --dataset ID --name "bank answers" --start
        treadle submit --file task.json --continuous --iterations 5 --threshold 0.9 --start-in 2h
    """
    import asyncio

    from cli.tasks.submission import body_of

    mode, body = body_of(file, ctx.params, continuous)
    asyncio.run(_create(url, mode, body, key, as_json))


async def _create(url: str, mode: str, body: dict[str, Any], key: str | None, as_json: bool) -> None:
    """Create the task; print its id, and the next command on standard error."""
    from cli.client import GatewayClient

    async with GatewayClient(url) as gateway:
        task = await gateway.submit(mode, body, key=key)
    if as_json:
        echo_json(task)
        return
    echo(task.task_id)
    next_command = "watch" if body.get("auto_start") else "start"
    after = body.get("start_after_seconds")
    state = f"starts in {format_duration(after)}" if after else f"is {task.status}"
    echo(f"{task.task_name} {state}; next: treadle {next_command} {task.task_id}", err=True)


def tasks(
    status: Annotated[
        str | None, typer.Option(help="Only this status: PENDING, TRAINING, COMPLETED, FAILED, …")
    ] = None,
    user: Annotated[int | None, typer.Option(help="Only tasks of the user with this id.")] = None,
    page: Annotated[int, typer.Option(min=1, help="Page to show.")] = 1,
    size: Annotated[int, typer.Option(min=1, max=100, help="Tasks on a page.")] = 20,
    url: Url = DEFAULT_URL,
    as_json: AsJson = False,
) -> None:
    """List tasks, newest first.

    The first column is the id that other commands take as TASK.

    **Examples**

        treadle tasks
        treadle tasks --status FAILED
    """
    import asyncio

    from cli.client import GatewayClient
    from cli.tasks import view as task_view
    from contracts.http import TaskPage

    async def show_page() -> None:
        async with GatewayClient(url) as gateway:
            wanted = status.upper() if status else None
            answer = await gateway.get("/api/tasks", status=wanted, userId=user, page=page, pageSize=size)
        echo_json(answer) if as_json else task_view.show_page(TaskPage.model_validate(answer))

    asyncio.run(show_page())


def show(task: TaskId, url: Url = DEFAULT_URL, as_json: AsJson = False) -> None:
    """Show one task: its status, why it waits, the result of each iteration, what happened to its rows, every attempt.

    work is the time in which programs ran, of the time in which the task should have worked: from its first command to
    the end of its newest ended attempt, without pauses. The rest is overhead; `treadle trace` draws where it went.
    With --json, the output has no attempts.

    **Example**

        treadle show 1b9d6bcd-bbfd-4b2d-9b5d-ab8dfbbd4bed
    """
    import asyncio

    from cli.client import GatewayClient
    from cli.tasks import view as task_view

    async def show_task() -> None:
        async with GatewayClient(url) as gateway:
            detail = await gateway.task(task)
            attempts = [] if as_json else await gateway.attempts(task)
        if as_json:
            echo_json(detail)
        else:
            task_view.show_task(detail, attempts)

    asyncio.run(show_task())
