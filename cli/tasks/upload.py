"""`treadle upload`: upload a file as a dataset."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cli.options import DEFAULT_URL, AsJson, Url, UserId


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

    Supported formats are alpaca, ShareGPT and OpenAI messages (JSON or JSON lines), and CSV with the columns
    text,category. The upload does not check the rows: the optimizer reads the file when a task starts, and puts
    invalid lines in quarantine with the reason.

    **Example**

        treadle upload questions.csv --name "bank questions" --domain banking
    """
    import asyncio

    from cli.client import GatewayClient

    async def send() -> None:
        async with GatewayClient(url) as gateway:
            dataset = await gateway.upload(file, name=name or file.name, dataset_type=kind, domain=domain, user_id=user)
        if as_json:
            typer.echo(dataset.model_dump_json(by_alias=True))
        else:
            typer.echo(dataset.dataset_id)
            typer.echo(f"{dataset.name}: {dataset.file_size:,} bytes at {dataset.storage_path}", err=True)

    asyncio.run(send())
