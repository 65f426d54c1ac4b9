"""`treadle upload`: upload a file as a dataset."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cli.options import DEFAULT_URL, AsJson, Url, UserId
from cli.terminal import echo, echo_json


def upload(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, readable=True, help="File to upload.")],
    name: Annotated[str | None, typer.Option(help="Name of the dataset; the file name by default.")] = None,
    kind: Annotated[str, typer.Option("--type", help="Purpose: training, dev, test, pool, …")] = "training",
    domain: Annotated[str | None, typer.Option(help="Subject of the data, e.g. banking.")] = None,
    user: UserId = 1,
    url: Url = DEFAULT_URL,
    as_json: AsJson = False,
) -> None:
    """Upload a file as a dataset and print its id.

    Supported formats are alpaca, ShareGPT and OpenAI messages (JSON or JSON lines), questions with answers, and CSV
    with a header such as text,category. The upload does not look at the rows: `treadle check FILE` shows what a task
    would do with them, and `treadle show TASK` what it did.

    **Example**

        treadle upload questions.csv --name "bank questions" --domain banking
    """
    import asyncio
    import shlex

    from cli.client import GatewayClient

    async def send() -> None:
        async with GatewayClient(url) as gateway:
            dataset = await gateway.upload(file, name=name or file.name, dataset_type=kind, domain=domain, user_id=user)
        if as_json:
            echo_json(dataset)
        else:
            echo(dataset.dataset_id)
            echo(f"{dataset.name}: {dataset.file_size:,} bytes at {dataset.storage_path}", err=True)
            echo(f"what a task does with its rows: treadle check {shlex.quote(str(file))}", err=True)

    asyncio.run(send())
