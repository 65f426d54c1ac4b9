"""A worker's folder on disk: `spool.db`, and under `jobs/` one folder an attempt. One living worker each."""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import os
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit

import structlog

from contracts.errors import TreadleError
from contracts.tasks import AttemptKey, Phase
from infra.child.environment import end_leftovers
from infra.settings import Settings
from infra.worker.spool import Spool

LOCK = "lock"
PRIVATE = 0o700
"""Inputs and logs of jobs are nobody else's, also where the folder lies in a shared temporary one."""
PATIENCE, RETRY_AFTER = 10.0, 0.2
"""Seconds for which a dying worker, or one that looks for orphans, may still hold the lock."""
KEPT_JOBS = 5
"""Folders of failed jobs that stay for a person to look at."""

log = structlog.get_logger(__name__)


class FolderInUse(TreadleError):
    """Another living worker has this id on this machine."""

    def __init__(self, folder: Path) -> None:
        super().__init__(f"another worker runs in {folder}: give this one an id of its own with TREADLE_WORKER_ID")


class WorkerFolder:
    """Locked while its worker lives; the lock goes with the process, however that ends."""

    def __init__(self, folder: Path) -> None:
        self.path = folder
        self.jobs = folder / "jobs"
        self.spool = Spool(folder / "spool.db")
        self._lock: int | None = None

    @classmethod
    def of(cls, settings: Settings, phase: Phase, worker_id: str) -> WorkerFolder:
        """This worker's, beside those of its peers at the same broker: a spool is never sent to another one."""
        return cls(settings.work_dir / broker_hash(settings.bus_url.get_secret_value()) / phase.value / worker_id)

    async def take(self) -> None:
        """Make it ours. Raises FolderInUse where another worker keeps it for longer than a start lasts."""
        for _ in range(int(PATIENCE / RETRY_AFTER)):
            if await asyncio.to_thread(self.lock):
                return
            await asyncio.sleep(RETRY_AFTER)
        raise FolderInUse(self.path)

    def lock(self) -> bool:
        """Whether it is ours now; then what an earlier life left running is ended."""
        _make_private(self.jobs)
        lock = os.open(self.path / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
        if not _locked(lock, self.path / LOCK):
            os.close(lock)
            return False
        self._lock = lock
        end_leftovers(self.path)
        for stale in self.path.glob("child-*.log"):
            stale.unlink()
        return True

    def unlock(self) -> None:
        """Let another life have it."""
        self.spool.close()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    async def orphans(self) -> AsyncIterator[WorkerFolder]:
        """The folders of dead workers beside this one, locked for the caller: their spools want sending."""
        for path in sorted(os.listdir(self.path.parent)):
            orphan = WorkerFolder(self.path.parent / path)
            if await asyncio.to_thread(self._is_dead, orphan):
                yield orphan

    def _is_dead(self, other: WorkerFolder) -> bool:
        """Whether it is the folder of a dead worker; then it is locked. It may take seconds."""
        return other.path != self.path and (other.path / LOCK).exists() and other.lock()

    def inherit(self, orphan: WorkerFolder) -> None:
        """Take over the job folders of a dead worker whose spool was sent, and remove the rest of it."""
        for job in orphan.jobs.iterdir():
            if not (self.jobs / job.name).exists():
                job.rename(self.jobs / job.name)
        orphan.spool.close()
        for damaged in orphan.path.glob("*.damaged"):
            damaged.rename(self.path / f"{orphan.path.name}-{damaged.name}")
        shutil.rmtree(orphan.path, ignore_errors=True)
        orphan.unlock()
        log.info("dead_worker_inherited", worker_folder=str(orphan.path))

    def job_path(self, key: AttemptKey) -> Path:
        """Where an attempt is run."""
        return self.jobs / f"{key.task_id}-{key.iteration}-{key.phase}-a{key.attempt}"

    def job(self, key: AttemptKey) -> Path:
        """The same, made and empty."""
        folder = self.job_path(key)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        return folder

    def prune(self, active: set[Path]) -> None:
        """Remove the oldest folders of jobs that failed, beyond the last few."""
        kept = [path for path in self.jobs.iterdir() if path not in active]
        for path in sorted(kept, key=_age, reverse=True)[KEPT_JOBS:]:
            shutil.rmtree(path, ignore_errors=True)


def broker_hash(bus_url: str) -> str:
    """A short name for the broker at an address, whoever logs in there and with whatever password."""
    address = urlsplit(bus_url)
    place = f"{address.hostname}:{address.port}/{address.path.strip('/')}"
    return hashlib.sha256(place.encode()).hexdigest()[:8]


def _age(path: Path) -> int:
    """When a folder was written last; one that has just gone, for another attempt tidies too, counts as the oldest."""
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:
        return 0


def _make_private(folder: Path) -> None:
    """Make a folder, and those above it that are missing, for this user alone."""
    for path in (*reversed(folder.parents), folder):
        path.mkdir(mode=PRIVATE, exist_ok=True)


def _locked(lock: int, path: Path) -> bool:
    """Whether the open file is locked now, and still is the one at `path`: its folder may just have been inherited."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return path.exists() and os.fstat(lock).st_ino == path.stat().st_ino
