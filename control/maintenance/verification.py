"""Find what the database refers to and the object store lacks, for example after a restore of one without the other."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass
from itertools import count

from contracts.artifacts import FOLDER_OF, MANIFEST, Manifest
from control.maintenance.unreferenced import artifact_of, references
from control.store.port import Store
from control.store.values import TaskFilter
from infra.artifacts import BadArtifact, read_manifest
from infra.objects import ObjectStore

PAGE = 200
"""Tasks or datasets that are read at a time."""
PARALLEL = 8
"""Artifacts that are looked up at the same time."""
STORED = ("datasets/", *(f"{folder}/" for folder in FOLDER_OF.values()))
"""How the prefixes of artifacts begin; other references are folders of machines, and models of a hub."""

OnStep = Callable[[str, int, int | None], None]
"""Receives the kind of what is verified, how many are done, and how many there are, if that is known."""


@dataclass(frozen=True, slots=True)
class IncompleteArtifact:
    """An artifact that the store does not have, or not completely, and one of the rows that refer to it."""

    prefix: str
    problem: str
    referrer: str


@dataclass(frozen=True, slots=True)
class Verified:
    """How many artifacts were looked up, and those that are incomplete."""

    artifacts: int
    incomplete: list[IncompleteArtifact]


async def verify(store: Store, objects: ObjectStore, on_step: OnStep) -> Verified:
    """Look up every artifact that tasks, datasets and registered models refer to; compare names and sizes of its files.

    The contents of files are not read. Raises StoreUnavailable, ObjectStoreUnavailable.
    """
    seen: set[str] = set()
    incomplete: list[IncompleteArtifact] = []
    async for referrers in _referrers(store, on_step):
        new = {artifact_of(prefix): referrer for prefix, referrer in referrers.items()}
        new = {prefix: new[prefix] for prefix in sorted(new.keys() - seen) if prefix.startswith(STORED)}
        seen |= new.keys()
        incomplete += await _incomplete(objects, new)
    return Verified(len(seen), incomplete)


async def _referrers(store: Store, on_step: OnStep) -> AsyncIterator[dict[str, str]]:
    """Pages of the prefixes that are referred to, each with what refers to it."""
    done = 0
    for page in count(1):
        tasks, total = await store.tasks(TaskFilter(), page, PAGE)
        if not tasks:
            break
        yield {prefix: f"task {stored.task.task_id}" for stored in tasks for prefix in references(stored.task)}
        done += len(tasks)
        on_step("tasks", done, total)
    yield dict.fromkeys(await store.referenced_prefixes(), "a registered model")
    after, done = "", 0
    while paths := await store.dataset_paths(after, PAGE):
        yield {path: f"dataset {path.rpartition('/')[2]}" for path in paths}
        after, done = paths[-1], done + len(paths)
        on_step("datasets", done, None)


async def _incomplete(objects: ObjectStore, referrers: dict[str, str]) -> Iterable[IncompleteArtifact]:
    limit = asyncio.Semaphore(PARALLEL)

    async def look_up(prefix: str) -> str | None:
        async with limit:
            return await _problem(objects, prefix)

    problems = await asyncio.gather(*(look_up(prefix) for prefix in referrers))
    return [
        IncompleteArtifact(prefix, problem, referrer)
        for (prefix, referrer), problem in zip(referrers.items(), problems, strict=True)
        if problem is not None
    ]


async def _problem(objects: ObjectStore, prefix: str) -> str | None:
    """Why an artifact is not complete; None if it is."""
    try:
        manifest = await read_manifest(objects, prefix)
    except BadArtifact as error:
        return str(error)
    sizes = await objects.sizes(f"{prefix}/")
    if manifest is None:
        return f"it has no {MANIFEST}, and {len(sizes)} other objects"
    return _difference(manifest, {key.removeprefix(f"{prefix}/"): size for key, size in sizes.items()})


def _difference(manifest: Manifest, sizes: dict[str, int]) -> str | None:
    different = [file for file in manifest.files if sizes.get(file.name) != file.size]
    if not different:
        return None
    first = different[0]
    found = f"{sizes[first.name]:,} bytes" if first.name in sizes else "nothing"
    names = f"{len(different)} of {len(manifest.files)} files"
    return (
        f"{names} are missing or have another size, such as {first.name}: {first.size:,} bytes expected, {found} found"
    )
