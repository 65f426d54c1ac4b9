"""Retention: deletes old artifacts without references, old inbox rows, and rows of workers that are gone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from uuid import UUID

import structlog

from contracts.artifacts import attempt_prefix, log_prefix
from contracts.tasks import AttemptKey, Phase
from control.loops import Periodic
from control.machine.task import Task
from control.maintenance.unreferenced import UnreferencedArtifact, artifact_of, deletable_log, unreferenced
from control.store.port import Store
from control.store.values import AttemptRecord
from infra.artifacts import remove
from infra.objects import ObjectStore
from infra.settings import Settings

SECONDS_PER_DAY = 86_400.0
CLEAN_INTERVAL = 3_600.0
"""Seconds between two cleanings."""
ATTEMPTS_PER_BATCH = 500
"""Attempts cleaned in one batch."""
FORGET_WORKERS = SECONDS_PER_DAY
"""Seconds without a request after which the row of a worker is deleted: each start of a worker has another id."""
INBOX_BATCH = 10_000
"""Inbox rows deleted in one transaction."""

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Cleaned:
    """What was deleted, or would be deleted; `inbox` is a number of rows."""

    unreferenced: list[UnreferencedArtifact] = field(default_factory=list)
    inbox: int = 0

    @property
    def size(self) -> int:
        """Total size in the object store, in bytes."""
        return sum(artifact.size for artifact in self.unreferenced)


class Retention(Periodic):
    """Runs `clean` once an hour for everything older than `retention_after` days, in one control process at a time."""

    def __init__(self, store: Store, objects: ObjectStore, settings: Settings) -> None:
        super().__init__("retention", CLEAN_INTERVAL)
        self._store = store
        self._objects = objects
        self._older_than = settings.retention_after * SECONDS_PER_DAY

    async def tick(self) -> None:
        """Forget workers that are gone, and clean once, unless `retention_after` is 0."""
        if not await self._store.try_lead(self.name):
            return
        await self._store.delete_workers(FORGET_WORKERS)
        if self._older_than > 0:
            cleaned = await clean(self._store, self._objects, self._older_than)
            log.info("retention_done", artifacts=len(cleaned.unreferenced), bytes=cleaned.size, inbox=cleaned.inbox)


async def preview(store: Store, objects: ObjectStore, older_than: float) -> Cleaned:
    """What `clean` would delete now. Raises StoreUnavailable, ObjectStoreUnavailable."""
    snapshot = _ReferenceSnapshot(store, objects)
    deletable = [
        artifact for attempt in await store.uncleaned(older_than) for artifact in await snapshot.deletable(attempt)
    ]
    return Cleaned(deletable, await store.old_inbox(older_than))


async def clean(store: Store, objects: ObjectStore, older_than: float) -> Cleaned:
    """Delete artifacts without references of attempts that ended `older_than` seconds ago, and inbox rows of that age.

    The next call continues an interrupted one. Raises StoreUnavailable, ObjectStoreUnavailable.
    """
    cleaned = Cleaned()
    while page := await store.uncleaned(older_than, ATTEMPTS_PER_BATCH):
        deleted, finished = await _clean_page(store, objects, page)
        cleaned.unreferenced += deleted
        if not finished:
            break  # the remaining attempts have checkpoints that may still be resumed
    while rows := await store.delete_inbox(older_than, INBOX_BATCH):
        cleaned.inbox += rows
    return cleaned


async def _clean_page(
    store: Store, objects: ObjectStore, page: Sequence[AttemptRecord]
) -> tuple[list[UnreferencedArtifact], int]:
    """Clean these attempts; return what was deleted, and how many attempts are finished.

    Datasets are deregistered first, then the references are read again: a task created meanwhile keeps its datasets.
    """
    before = _ReferenceSnapshot(store, objects)
    datasets = [attempt for attempt in page if attempt.key.phase is Phase.OPTIMIZE]
    await store.delete_datasets(
        [artifact.prefix for attempt in datasets for artifact in await before.deletable(attempt)]
    )
    after = _ReferenceSnapshot(store, objects)
    deleted: list[UnreferencedArtifact] = []
    finished: list[AttemptKey] = []
    for attempt in page:
        artifacts = await after.deletable(attempt)
        for artifact in artifacts:
            await remove(objects, artifact.keys)
        deleted += artifacts
        if after.is_finished(attempt):
            finished.append(attempt.key)
    await store.mark_cleaned(finished)
    return deleted, len(finished)


class _ReferenceSnapshot:
    """Finds artifacts without references, by a snapshot of the references that the first call reads."""

    def __init__(self, store: Store, objects: ObjectStore) -> None:
        self._store = store
        self._objects = objects
        self._referenced: frozenset[str] | None = None
        self._tasks: dict[UUID, Task] = {}
        self._resumable: set[str] = set()

    async def deletable(self, attempt: AttemptRecord) -> list[UnreferencedArtifact]:
        """The deletable artifacts of one attempt."""
        if self._referenced is None:
            self._referenced = frozenset(artifact_of(prefix) for prefix in await self._store.referenced_prefixes())
        task = await self._task(attempt.key.task_id)
        prefix = attempt_prefix(attempt.key)
        sizes = await self._objects.sizes(f"{prefix}/")
        artifacts = unreferenced(attempt, task, self._referenced, sizes)
        deleted = {key for artifact in artifacts for key in artifact.keys}
        if not task.status.terminal and any("/checkpoint-" in key for key in sizes if key not in deleted):
            self._resumable.add(prefix)
        return artifacts + deletable_log(attempt, task, await self._log_sizes(attempt.key, task))

    def is_finished(self, attempt: AttemptRecord) -> bool:
        """Whether this attempt needs no later cleaning."""
        return attempt_prefix(attempt.key) not in self._resumable

    async def _log_sizes(self, key: AttemptKey, task: Task) -> Mapping[str, int]:
        """The objects of a log; none if it is kept anyway."""
        return await self._objects.sizes(f"{log_prefix(key)}/") if task.status.terminal else {}

    async def _task(self, task_id: UUID) -> Task:
        if task_id not in self._tasks:
            self._tasks[task_id] = (await self._store.task(task_id)).task
        return self._tasks[task_id]
