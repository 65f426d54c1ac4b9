"""Download files: resume what was begun, check every hash, and put a file in its place only when it is complete."""

from __future__ import annotations

import asyncio
import hashlib
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from urllib.parse import quote

from cli.client import GatewayClient, GatewayUnreachable
from cli.download.layout import Layout, Planned
from contracts.errors import TreadleError

MAX_FAILURES, PAUSE = 4, 1.0
"""Failed requests in a row, none of which brought a byte; seconds before the second one, doubled each time."""
MAX_NAMED = 3
"""Different files that an error names."""
PARTIAL = ".part"
"""The ending of a file that is not complete."""


class DifferentFiles(TreadleError):
    """The folder has other files where some of the download's would go."""

    def __init__(self, paths: list[Path]) -> None:
        names = ", ".join(str(path) for path in paths[:MAX_NAMED])
        more = f" and {len(paths) - MAX_NAMED} more" if len(paths) > MAX_NAMED else ""
        super().__init__(f"{names}{more} exist and differ: choose another folder with --to, or replace with --force")


class DamagedDownload(TreadleError):
    """A file arrived whose hash is not the one in the list."""

    def __init__(self, name: str) -> None:
        super().__init__(f"{name} arrived damaged twice: its sha256 is not that of the gateway's list; try again later")


class NotEnoughSpace(TreadleError):
    """The disk of the folder has too little free space for the download."""

    def __init__(self, folder: Path, needed: int, free: int) -> None:
        super().__init__(
            f"{needed:,} bytes are needed in {folder}, but {free:,} are free: choose another disk with --to"
        )


def require_space(folder: Path, files: Sequence[Planned]) -> None:
    """Raise NotEnoughSpace if the disk of `folder` cannot hold `files` besides what it has of them already."""
    parts = [path for file in files if (path := _part(folder / file.path)).exists()]
    needed, free = sum(file.size for file in files) - sum(map(_size, parts)), shutil.disk_usage(folder).free
    if needed > free:
        raise NotEnoughSpace(folder, needed, free)


async def missing_files(layout: Layout, folder: Path, *, force: bool) -> list[Planned]:
    """The files that are not complete in `folder`, with the one that is rewritten, which comes first.

    Raises DifferentFiles if a file exists with another content and `force` is not set.
    """
    unchanged = [file for file in layout.files if file.path != layout.rewritten]
    missing = [file for file in unchanged if not await asyncio.to_thread(_is_complete, folder / file.path, file)]
    different = [path for file in missing if (path := folder / file.path).exists()]
    if different and not force:
        raise DifferentFiles(different)
    return [file for file in layout.files if file.path == layout.rewritten] + missing


async def fetch(
    gateway: GatewayClient, address: str, file: Planned, path: Path, received: Callable[[int], None]
) -> None:
    """Download one file to `path`; `received` is called with the number of bytes of each piece, negative if discarded.

    Raises DamagedDownload, GatewayUnreachable, RequestRefused. A part that was received stays and is resumed later.
    """
    part = _part(path)
    for _ in range(2):
        received(_begin(part))
        await _complete(gateway, address, file, part, received)
        if await asyncio.to_thread(_is_complete, part, file):
            part.replace(path)
            return
        received(-_size(part))
        part.unlink()
    raise DamagedDownload(file.name)


async def _complete(
    gateway: GatewayClient, address: str, file: Planned, part: Path, received: Callable[[int], None]
) -> None:
    """Append to `part` until it has the size of the file or no byte arrives; a lost connection is restored."""
    failures = 0
    while (start := _size(part)) < file.size:
        try:
            await _append(gateway, f"{address}/{quote(file.name)}", part, received)
            if _size(part) == start:
                return
        except GatewayUnreachable:
            failures = 1 if _size(part) > start else failures + 1
            if failures == MAX_FAILURES:
                raise
            await asyncio.sleep(PAUSE * 2 ** (failures - 1))


async def _append(gateway: GatewayClient, path: str, part: Path, received: Callable[[int], None]) -> None:
    with part.open("ab") as target:
        async for piece in gateway.read_file(path, start=target.tell()):
            target.write(piece)
            received(len(piece))


def _part(path: Path) -> Path:
    """Where the bytes of an incomplete file are kept."""
    return path.with_name(path.name + PARTIAL)


def _begin(part: Path) -> int:
    """Create the file with its folder if it is missing; return its size in bytes."""
    part.parent.mkdir(parents=True, exist_ok=True)
    part.touch()
    return _size(part)


def _is_complete(path: Path, file: Planned) -> bool:
    if not path.is_file() or path.stat().st_size != file.size:
        return False
    with path.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest() == file.sha256


def _size(path: Path) -> int:
    return path.stat().st_size
