"""Folders in the object store. An artifact is there once its manifest is, and is read against it."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path, PurePosixPath
from typing import TypeVar

import structlog
from pydantic import ValidationError
from tenacity import AsyncRetrying, RetryCallState, stop_after_attempt, stop_after_delay, stop_any
from tenacity.stop import stop_base

from contracts.artifacts import MANIFEST, Manifest, ManifestFile
from contracts.errors import TreadleError
from contracts.message import Message
from infra.objects import ObjectNotFound, ObjectStore, ObjectStoreDenied, ObjectStoreUnavailable
from infra.retry import retry_policy

S = TypeVar("S")
T = TypeVar("T")
AT_ONCE = 4
"""Files of one artifact that travel at a time."""
STORE_PATIENCE = 15 * 60.0
"""Seconds for which a worker waits, at each file, for a store that is away."""
MOST_DENIALS = 4
"""Tries at a store that does not let us in: some deny while they start."""

log = structlog.get_logger(__name__)


class BadArtifact(TreadleError):
    """An artifact is missing, damaged, or names files that must not be written."""

    def __init__(self, prefix: str, why: str) -> None:
        self.prefix = prefix
        super().__init__(f"artifact {prefix}: {why}")


ONCE = AsyncRetrying(stop=stop_after_attempt(1), reraise=True)


class _DeniedTooOften(stop_base):
    def __call__(self, retry_state: RetryCallState) -> bool:
        error = retry_state.outcome.exception() if retry_state.outcome else None
        return isinstance(error, ObjectStoreDenied) and retry_state.attempt_number >= MOST_DENIALS


def patiently(seconds: float) -> AsyncRetrying:
    """Wait for a store that is away, file by file: what was moved stays moved. Then raises ObjectStoreUnavailable."""
    stop = stop_any(stop_after_delay(seconds), _DeniedTooOften())
    return retry_policy(ObjectStoreUnavailable, longest=15.0, stop=stop)


PATIENTLY = patiently(STORE_PATIENCE)


async def upload(
    objects: ObjectStore,
    prefix: str,
    folder: Path,
    event: Message | None = None,
    *,
    retrying: AsyncRetrying = ONCE,
) -> Manifest:
    """Write all files below `folder`, then the manifest. A manifest of the folder's own is not copied.

    Raises BadArtifact for a name that no reader would accept, ObjectStoreUnavailable, ObjectRefused.
    """

    async def send(path: Path) -> ManifestFile:
        file = await asyncio.to_thread(_describe, path, path.relative_to(folder).as_posix())
        await retrying.copy()(objects.put_file, f"{prefix}/{file.name}", path)
        return file

    files = await _some_at_once(send, _contents(prefix, folder))
    manifest = Manifest(files=tuple(files), event=event.model_dump(mode="json") if event else None)
    await retrying.copy()(objects.put, f"{prefix}/{MANIFEST}", manifest.model_dump_json().encode())
    return manifest


async def download(objects: ObjectStore, prefix: str, folder: Path, *, retrying: AsyncRetrying = ONCE) -> int:
    """Lay an artifact under `folder`, each file checked by size and hash; answers the bytes moved.

    Of `p#sub` only the files of `p` below `sub/` (named without it), or the one file `sub`.
    Raises BadArtifact where it is missing, damaged or unsafe, ObjectStoreUnavailable.
    """
    root, _, part = prefix.partition("#")
    manifest = await read_manifest(objects, root, retrying=retrying)
    if manifest is None:
        raise BadArtifact(root, "it has no manifest: it was never completed, or has been removed")
    wanted = _wanted(prefix, manifest, part.strip("/"))

    async def fetch(item: tuple[str, ManifestFile]) -> None:
        name, file = item
        path = folder / name
        await retrying.copy()(objects.get_file, f"{root}/{file.name}", path)
        if await asyncio.to_thread(_describe, path, file.name) != file:
            path.unlink()
            raise BadArtifact(root, f"{file.name} is not what its manifest says (size or sha256)")

    try:
        await _some_at_once(fetch, list(wanted.items()))
    except ObjectNotFound as error:
        raise BadArtifact(root, f"{error.key} stands in its manifest and is missing") from error
    return sum(file.size for file in wanted.values())


async def read_manifest(objects: ObjectStore, prefix: str, *, retrying: AsyncRetrying = ONCE) -> Manifest | None:
    """The manifest of a complete artifact; None where there is none. Raises BadArtifact for an unreadable one."""
    try:
        body: bytes = await retrying.copy()(objects.get, f"{prefix}/{MANIFEST}")
    except ObjectNotFound:
        return None
    try:
        return Manifest.model_validate_json(body)
    except ValidationError as error:
        raise BadArtifact(prefix, f"its manifest cannot be read: {error.errors()[0]['msg']}") from error


async def remove(objects: ObjectStore, keys: Sequence[str]) -> None:
    """Delete objects, manifests first: an artifact that is half deleted is never taken for complete.

    Raises ObjectStoreUnavailable.
    """
    manifests = [key for key in keys if PurePosixPath(key).name == MANIFEST]
    await objects.delete(manifests)
    await objects.delete([key for key in keys if PurePosixPath(key).name != MANIFEST])


def _contents(prefix: str, folder: Path) -> list[Path]:
    """The regular files below `folder`. Raises BadArtifact for anything that would not travel."""
    paths = sorted(path for path in folder.rglob("*") if path.is_symlink() or not path.is_dir())
    for path in paths:
        _safe(prefix, path.relative_to(folder).as_posix())
        if path.is_symlink():
            raise BadArtifact(prefix, f"{path.name} is a symbolic link; expected a regular file")
    return [path for path in paths if path != folder / MANIFEST]


def _wanted(prefix: str, manifest: Manifest, part: str) -> dict[str, ManifestFile]:
    """Local name to file."""
    if not part:
        return {_safe(prefix, file.name): file for file in manifest.files}
    below = {
        _safe(prefix, file.name.removeprefix(f"{part}/")): file
        for file in manifest.files
        if file.name.startswith(f"{part}/")
    }
    wanted = below or {PurePosixPath(file.name).name: file for file in manifest.files if file.name == part}
    if not wanted:
        raise BadArtifact(prefix, f"it holds nothing named {part}")
    return wanted


def _safe(prefix: str, name: str) -> str:
    """A relative name that stays below its folder, on any system."""
    parts = name.split("/")
    if not all(parts) or {".", ".."} & set(parts) or "\\" in name or "\0" in name:
        raise BadArtifact(prefix, f"the file name {name!r} is not allowed; expected a relative path without '..'")
    return name


def _describe(path: Path, name: str) -> ManifestFile:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return ManifestFile(name=name, size=file.tell(), sha256=digest)


async def _some_at_once(work: Callable[[S], Awaitable[T]], items: Sequence[S]) -> list[T]:
    """Results in order, a few at a time; the first failure cancels the rest."""
    gate = asyncio.Semaphore(AT_ONCE)

    async def one(item: S) -> T:
        async with gate:
            return await work(item)

    tasks = [asyncio.create_task(one(item)) for item in items]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
