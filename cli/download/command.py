"""`treadle download`: the files of a dataset, or the model, the rows and the report of an iteration."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.download.layout import Only
from cli.options import DEFAULT_URL, Url, create_folder
from cli.terminal import Terminal, echo

if TYPE_CHECKING:
    from cli.client import GatewayClient
    from cli.download.layout import Layout
    from cli.download.target import Target
    from contracts.files import FileView


def download(
    target: Annotated[str, typer.Argument(metavar="TARGET", help="task:ID, task:ID/ITERATION, or a dataset's id.")],
    to: Annotated[
        Path | None, typer.Option("--to", file_okay=False, help="Folder for the files; by default a new one here.")
    ] = None,
    only: Annotated[Only | None, typer.Option(help="Only this part of an iteration.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace files that differ.")] = False,
    url: Url = DEFAULT_URL,
) -> None:
    """Download a dataset, or the model, the rows and the report of an iteration, by default of the best one.

    Every file is checked against its sha256. After an interruption, the same command continues: it skips complete
    files. An adapter is put beside its base, if the base is in the object store, and names it. The rows of the sealed
    test split cannot be downloaded.

    **Examples**

        treadle download task:1b9d6bcd-bbfd-4b2d-9b5d-ab8dfbbd4bed --only model --to my-model
        treadle download ds-0c9b7f61d4f54fd3a1c5b1e3a6f7a3f2
    """
    import asyncio

    from cli.download.next_steps import next_steps

    folder, layout, fetched, removed = asyncio.run(_download(url, target, to, only, force))
    echo(folder)
    echo(f"{len(layout.files)} files; {len(layout.files) - fetched} of them were there already", err=True)
    for name in removed:
        echo(f"{name}/ was left out: its files were deleted, for example by `treadle retention`", err=True)
    for line in next_steps(folder, layout):
        echo(line, err=True)


async def _download(
    url: str, target: str, to: Path | None, only: Only | None, force: bool
) -> tuple[Path, Layout, int, Sequence[str]]:
    """Download the files; return the folder, the layout, the number of files fetched, and folders that were deleted."""
    import asyncio

    from cli.client import GatewayClient
    from cli.download.target import find_target

    async with GatewayClient(url) as gateway:
        found = await find_target(gateway, target)
        listed = await gateway.files(found.files)
        layout = _layout(listed.files, only, found)
        folder = await asyncio.to_thread(create_folder, to or Path(found.folder), "--to")
        return folder, layout, await _save(gateway, found.files, layout, folder, force), listed.removed


def _layout(files: Sequence[FileView], only: Only | None, target: Target) -> Layout:
    from cli.download.layout import layout_of
    from contracts.errors import FieldError, InvalidInput

    if only and not target.is_iteration:
        raise InvalidInput((FieldError(field="--only", message="a dataset has no parts; leave --only out"),))
    layout = layout_of(files, only)
    if not layout.files:
        raise InvalidInput((FieldError(field="TARGET", message="there are no such files yet; try again later"),))
    return layout


async def _save(gateway: GatewayClient, address: str, layout: Layout, folder: Path, force: bool) -> int:
    """Download what is missing; return the number of files. The configuration of an adapter is written each time."""
    from cli.download.adapters import name_base, write_readme
    from cli.download.transfer import fetch, missing_files, require_space

    missing = await missing_files(layout, folder, force=force)
    require_space(folder, missing)
    with _progress_bar(layout.size) as advance:
        advance(layout.size - sum(file.size for file in missing))
        for file in missing:
            path = folder / file.path
            if layout.base and file.path == layout.rewritten:
                original = path.with_name(f"{path.name}.original")
                await fetch(gateway, address, file, original, advance)
                name_base(path, original, folder / layout.base, force=force)
            else:
                await fetch(gateway, address, file, path, advance)
    if len(layout.adapters) > 1:
        write_readme(folder, layout)
    return len(missing)


@contextmanager
def _progress_bar(size: int) -> Iterator[Callable[[int], None]]:
    """Show the progress of `size` bytes on standard error; yields a function to call with the bytes that arrived."""
    from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn, TransferSpeedColumn

    columns = (BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn(elapsed_when_finished=True))
    terminal = Terminal(stderr=True)
    with Progress(*columns, console=terminal, disable=not terminal.is_terminal) as progress:
        bar = progress.add_task("", total=size)
        yield partial(progress.advance, bar)
