"""Retention: what nothing refers to any more is deleted, once it is old enough."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from uuid import UUID

import structlog

from contracts.artifacts import attempt_prefix
from contracts.tasks import AttemptKey, Phase
from control.loops import Periodic
from control.machine.task import Task
from control.maintenance.unreferenced import Leftover, artifact_of, leftovers
from control.store.port import Run, Store
from infra.artifacts import remove
from infra.objects import ObjectStore
from infra.settings import Settings

DAY = 86_400.0
TICK = 3_600.0
PAGE = 500
"""Attempts looked at in one go."""
INBOX_PAGE = 10_000

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Cleaned:
    """What was deleted, or would be; `inbox` counts rows."""

    leftovers: list[Leftover] = field(default_factory=list)
    inbox: int = 0

    @property
    def size(self) -> int:
        """Bytes in the object store."""
        return sum(leftover.size for leftover in self.leftovers)


class Retention(Periodic):
    """Cleans once an hour what is older than the settings say; one control process at a time."""

    def __init__(self, store: Store, objects: ObjectStore, settings: Settings) -> None:
        super().__init__("retention", TICK)
        self._store = store
        self._objects = objects
        self._older_than = settings.retention_after * DAY

    async def tick(self) -> None:
        """Clean once; never where the setting is 0."""
        if self._older_than > 0 and await self._store.lead(self.name):
            cleaned = await clean(self._store, self._objects, self._older_than)
            log.info("cleaned", artifacts=len(cleaned.leftovers), bytes=cleaned.size, inbox=cleaned.inbox)


async def survey(store: Store, objects: ObjectStore, older_than: float) -> Cleaned:
    """What `clean` would delete now. Raises StoreUnavailable, ObjectStoreUnavailable."""
    look = _Look(store, objects)
    found = [leftover for run in await store.uncleaned(older_than) for leftover in await look.of(run)]
    return Cleaned(found, await store.old_inbox(older_than))


async def clean(store: Store, objects: ObjectStore, older_than: float) -> Cleaned:
    """Delete what nothing refers to, of attempts that ended `older_than` seconds ago, and as old inbox rows.

    What was begun and broken off is gone on with by the next call. Raises StoreUnavailable, ObjectStoreUnavailable.
    """
    cleaned = Cleaned()
    while page := await store.uncleaned(older_than, PAGE):
        found, done = await _clean_page(store, objects, page)
        cleaned.leftovers += found
        if not done:
            break  # what is left are checkpoints that may yet be resumed
    while gone := await store.forget_inbox(older_than, INBOX_PAGE):
        cleaned.inbox += gone
    return cleaned


async def _clean_page(store: Store, objects: ObjectStore, page: Sequence[Run]) -> tuple[list[Leftover], int]:
    """What was deleted, and how many attempts are done with.

    Datasets leave the register first: what a task was given in that very moment is seen when it is looked at again.
    """
    first = _Look(store, objects)
    datasets = [run for run in page if run.key.phase is Phase.OPTIMIZE]
    await store.forget_datasets([leftover.prefix for run in datasets for leftover in await first.of(run)])
    look = _Look(store, objects)
    found: list[Leftover] = []
    done: list[AttemptKey] = []
    for run in page:
        mine = await look.of(run)
        for leftover in mine:
            await remove(objects, leftover.keys)
        found += mine
        if look.is_done_with(run):
            done.append(run.key)
    await store.mark_cleaned(done)
    return found, len(done)


class _Look:
    """What nothing refers to, by the references as they are when it is first asked."""

    def __init__(self, store: Store, objects: ObjectStore) -> None:
        self._store = store
        self._objects = objects
        self._named: frozenset[str] | None = None
        self._tasks: dict[UUID, Task] = {}
        self._resumable: set[str] = set()

    async def of(self, run: Run) -> list[Leftover]:
        """The leftovers of one attempt."""
        if self._named is None:
            self._named = frozenset(artifact_of(name) for name in await self._store.named())
        task = await self._task(run.key.task_id)
        prefix = attempt_prefix(run.key)
        sizes = await self._objects.sizes(f"{prefix}/")
        found = leftovers(run, task, self._named, sizes)
        gone = {key for leftover in found for key in leftover.keys}
        if not task.status.terminal and any("/checkpoint-" in key for key in sizes if key not in gone):
            self._resumable.add(prefix)
        return found

    def is_done_with(self, run: Run) -> bool:
        """Whether nothing of this attempt will have to go later."""
        return attempt_prefix(run.key) not in self._resumable

    async def _task(self, task_id: UUID) -> Task:
        if task_id not in self._tasks:
            self._tasks[task_id] = (await self._store.task(task_id)).task
        return self._tasks[task_id]
