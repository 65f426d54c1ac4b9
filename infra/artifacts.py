"""Artifacts: folders in the object store. An artifact exists once its manifest does, and is checked against it."""

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

from contracts.artifacts import MANIFEST, Manifest, ManifestFile, is_safe_name
from contracts.errors import TreadleError
from contracts.message import Message
from infra.objects import ObjectNotFound, ObjectStore, ObjectStoreDenied, ObjectStoreUnavailable
from infra.retry import retry_policy

S = TypeVar("S")
T = TypeVar("T")
PARALLEL_FILES = 4
"""Files of one artifact that are transferred at the same time."""
STORE_TIMEOUT = 15 * 60.0
"""Seconds for which a worker retries each file while the object store is unavailable."""
MAX_DENIALS = 4
"""Calls, retries included, while the store denies access: some stores deny access while they start."""

log = structlog.get_logger(__name__)


class BadArtifact(TreadleError):
    """An artifact is missing or damaged, or the name of one of its files is not allowed."""

    def __init__(self, prefix: str, why: str) -> None:
        self.prefix = prefix
        super().__init__(f"artifact {prefix}: {why}")


NO_RETRY = AsyncRetrying(stop=stop_after_attempt(1), reraise=True)


class _DeniedTooOften(stop_base):
    def __call__(self, retry_state: RetryCallState) -> bool:
        error = retry_state.outcome.exception() if retry_state.outcome else None
        return isinstance(error, ObjectStoreDenied) and retry_state.attempt_number >= MAX_DENIALS


def retry_while_unavailable(seconds: float) -> AsyncRetrying:
    """Retries one call for `seconds` while the store is unavailable, then raises ObjectStoreUnavailable."""
    stop = stop_any(stop_after_delay(seconds), _DeniedTooOften())
    return retry_policy(ObjectStoreUnavailable, max_pause=15.0, stop=stop)


RETRY_WHILE_UNAVAILABLE = retry_while_unavailable(STORE_TIMEOUT)


async def upload(
    objects: ObjectStore,
    prefix: str,
    folder: Path,
    event: Message | None = None,
    *,
    retrying: AsyncRetrying = NO_RETRY,
) -> Manifest:
    """Upload all files below `folder`, then the manifest; a manifest that is in the folder itself is not uploaded.

    Raises BadArtifact for a symbolic link or a file name that is not allowed, ObjectStoreUnavailable, ObjectRefused.
    """

    async def send(path: Path) -> ManifestFile:
        file = await asyncio.to_thread(_describe, path, path.relative_to(folder).as_posix())
        await retrying.copy()(objects.put_file, f"{prefix}/{file.name}", path)
        return file

    files = await _in_parallel(send, _contents(prefix, folder))
    manifest = Manifest(files=tuple(files), event=event.model_dump(mode="json") if event else None)
    await retrying.copy()(objects.put, f"{prefix}/{MANIFEST}", manifest.model_dump_json().encode())
    return manifest


async def download(objects: ObjectStore, prefix: str, folder: Path, *, retrying: AsyncRetrying = NO_RETRY) -> int:
    """Download an artifact to `folder`, check the size and hash of each file, and return the total bytes.

    For `p#sub`, only the files of `p` below `sub/` (without `sub/` in their names), or the one file `sub`.
    Raises BadArtifact if the artifact is missing or damaged or a file name is not allowed, ObjectStoreUnavailable.
    """
    root, _, part = prefix.partition("#")
    manifest = await read_manifest(objects, root, retrying=retrying)
    if manifest is None:
        raise BadArtifact(root, "it has no manifest: it was never completed, or has been removed")
    files = _selected(prefix, manifest, part.strip("/"))

    async def fetch(item: tuple[str, ManifestFile]) -> None:
        name, file = item
        path = folder / name
        await retrying.copy()(objects.get_file, f"{root}/{file.name}", path)
        if await asyncio.to_thread(_describe, path, file.name) != file:
            path.unlink()
            raise BadArtifact(root, f"{file.name} differs from its manifest (size or sha256)")

    try:
        await _in_parallel(fetch, list(files.items()))
    except ObjectNotFound as error:
        raise BadArtifact(root, f"{error.key} is listed in its manifest but is missing in the object store") from error
    return sum(file.size for file in files.values())


async def read_manifest(objects: ObjectStore, prefix: str, *, retrying: AsyncRetrying = NO_RETRY) -> Manifest | None:
    """The manifest of a complete artifact; None if there is none. Raises BadArtifact if it cannot be read."""
    try:
        body: bytes = await retrying.copy()(objects.get, f"{prefix}/{MANIFEST}")
    except ObjectNotFound:
        return None
    try:
        return Manifest.model_validate_json(body)
    except ValidationError as error:
        raise BadArtifact(prefix, f"its manifest cannot be read: {error.errors()[0]['msg']}") from error


async def remove(objects: ObjectStore, keys: Sequence[str]) -> None:
    """Delete objects, manifests first, so that a partly deleted artifact never counts as complete.

    Raises ObjectStoreUnavailable.
    """
    manifests = [key for key in keys if PurePosixPath(key).name == MANIFEST]
    await objects.delete(manifests)
    await objects.delete([key for key in keys if PurePosixPath(key).name != MANIFEST])


def _contents(prefix: str, folder: Path) -> list[Path]:
    """The regular files below `folder` without its manifest. Raises BadArtifact for a file that cannot be uploaded."""
    paths = sorted(path for path in folder.rglob("*") if path.is_symlink() or not path.is_dir())
    for path in paths:
        _safe(prefix, path.relative_to(folder).as_posix())
        if path.is_symlink():
            raise BadArtifact(prefix, f"{path.name} is a symbolic link; expected a regular file")
    return [path for path in paths if path != folder / MANIFEST]


def _selected(prefix: str, manifest: Manifest, part: str) -> dict[str, ManifestFile]:
    """The files to download, by their local names."""
    if not part:
        return {_safe(prefix, file.name): file for file in manifest.files}
    below = {
        _safe(prefix, file.name.removeprefix(f"{part}/")): file
        for file in manifest.files
        if file.name.startswith(f"{part}/")
    }
    selected = below or {PurePosixPath(file.name).name: file for file in manifest.files if file.name == part}
    if not selected:
        raise BadArtifact(prefix, f"it has no file or folder {part}")
    return selected


def _safe(prefix: str, name: str) -> str:
    """The name, if it stays below its folder. Raises BadArtifact if not."""
    if not is_safe_name(name):
        raise BadArtifact(prefix, f"the file name {name!r} is not allowed; expected a relative path without '..'")
    return name


def _describe(path: Path, name: str) -> ManifestFile:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return ManifestFile(name=name, size=file.tell(), sha256=digest)


async def _in_parallel(work: Callable[[S], Awaitable[T]], items: Sequence[S]) -> list[T]:
    """Results in the order of `items`, at most PARALLEL_FILES at a time; the first error cancels the rest."""
    semaphore = asyncio.Semaphore(PARALLEL_FILES)

    async def one(item: S) -> T:
        async with semaphore:
            return await work(item)

    tasks = [asyncio.create_task(one(item)) for item in items]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
