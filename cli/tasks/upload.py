"""`treadle upload`: a file becomes a dataset."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cli.options import DEFAULT_URL, AsJson, Url, UserId


def upload(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, readable=True, help="The file to upload.")],
    name: Annotated[str | None, typer.Option(help="What to call it; the file's name by default.")] = None,
    kind: Annotated[str, typer.Option("--type", help="What it is for: training, dev, test, pool, …")] = "training",
    domain: Annotated[str | None, typer.Option(help="The field of knowledge, e.g. banking.")] = None,
    user: UserId = 1,
    url: Url = DEFAULT_URL,
    as_json: AsJson = False,
) -> None:
    """Upload a file as a dataset, and print its id.

    Read are alpaca, ShareGPT and OpenAI-messages rows (JSON or JSON lines) and text,category CSV. Nothing is
    parsed yet: the optimizer reads it when a task starts, and puts bad lines in quarantine with their reasons.

    **Example**

        treadle upload questions.csv --name "bank questions" --domain banking
    """
    import asyncio

    from cli.client import Gateway

    async def send() -> None:
        async with Gateway(url) as gateway:
            dataset = await gateway.upload(file, name=name or file.name, dataset_type=kind, domain=domain, user_id=user)
        if as_json:
            typer.echo(dataset.model_dump_json(by_alias=True))
        else:
            typer.echo(dataset.dataset_id)
            typer.echo(f"{dataset.name}: {dataset.file_size:,} bytes at {dataset.storage_path}", err=True)

    asyncio.run(send())
