"""A worker's folder on disk, for one worker process at a time: `spool.db`, and `jobs/` with a folder per attempt."""

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
from infra.child.leftovers import end_leftovers
from infra.child.process import CHILD_FILES
from infra.private_folders import FOLDER_MODE, make_private
from infra.settings import Settings
from infra.worker.spool import Spool

LOCK = "lock"
LOCK_TIMEOUT, RETRY_AFTER = 10.0, 0.2
"""Seconds to wait for the lock, which a stopping worker or one that looks for orphans may still hold."""
KEPT_JOBS = 5
"""The number of folders of failed jobs that are kept for debugging."""

log = structlog.get_logger(__name__)


class FolderInUse(TreadleError):
    """Another running worker uses this worker id on this machine."""

    def __init__(self, folder: Path) -> None:
        super().__init__(
            f"another worker uses the folder {folder}: set TREADLE_WORKER_ID to a different id for this worker"
        )


class WorkerFolder:
    """A worker's folder, locked while its worker runs; the operating system releases the lock when the process ends."""

    def __init__(self, folder: Path) -> None:
        self.path = folder
        self.jobs = folder / "jobs"
        self.spool = Spool(folder / "spool.db")
        self._lock: int | None = None

    @classmethod
    def of(cls, settings: Settings, phase: Phase, worker_id: str) -> WorkerFolder:
        """The folder of a worker, separate for each broker, so that a spool is never sent to a different broker."""
        return cls(settings.work_dir / broker_hash(settings.bus_url.get_secret_value()) / phase.value / worker_id)

    async def take(self) -> None:
        """Lock the folder, with retries. Raises FolderInUse if another worker still has the lock after LOCK_TIMEOUT."""
        for _ in range(int(LOCK_TIMEOUT / RETRY_AFTER)):
            if await asyncio.to_thread(self.lock):
                return
            await asyncio.sleep(RETRY_AFTER)
        raise FolderInUse(self.path)

    def lock(self) -> bool:
        """Try to lock the folder; on success, end the child processes of an earlier worker. Returns the success."""
        make_private(self.path)
        make_private(self.jobs)
        lock = os.open(self.path / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
        if not _try_lock(lock, self.path / LOCK):
            os.close(lock)
            return False
        self._lock = lock
        end_leftovers(self.path)
        for stale in self.path.glob(f"{CHILD_FILES}*"):
            shutil.rmtree(stale) if stale.is_dir() else stale.unlink()
        return True

    def unlock(self) -> None:
        """Release the lock and close the spool."""
        self.spool.close()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    async def orphans(self) -> AsyncIterator[WorkerFolder]:
        """The folders of dead workers next to this one, locked; the caller publishes the events in their spools."""
        for path in sorted(os.listdir(self.path.parent)):
            orphan = WorkerFolder(self.path.parent / path)
            if await asyncio.to_thread(self._is_dead, orphan):
                yield orphan

    def _is_dead(self, other: WorkerFolder) -> bool:
        """Lock the folder if its worker is dead. Returns whether it is locked now; may block for seconds."""
        return other.path != self.path and (other.path / LOCK).exists() and other.lock()

    def inherit(self, orphan: WorkerFolder) -> None:
        """Move the jobs and damaged spools of a dead worker to this folder and delete its folder.

        Its spool must have been published before.
        """
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
        """The job folder of an attempt."""
        return self.jobs / f"{key.task_id}-{key.iteration}-{key.phase}-a{key.attempt}"

    def job(self, key: AttemptKey) -> Path:
        """Create an empty job folder for an attempt."""
        folder = self.job_path(key)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(mode=FOLDER_MODE, parents=True)
        return folder

    def prune(self, active: set[Path], kept: int = KEPT_JOBS) -> None:
        """Remove all folders except `active` and the `kept` newest ones; nothing, if the disk cannot be read."""
        try:
            ended = [path for path in self.jobs.iterdir() if path not in active]
        except OSError as error:
            log.warning("jobs_not_pruned", error=str(error))
            return
        for path in sorted(ended, key=_modified_at, reverse=True)[kept:]:
            shutil.rmtree(path, ignore_errors=True)


def broker_hash(bus_url: str) -> str:
    """A short hash of the address of a broker, without user and password."""
    address = urlsplit(bus_url)
    location = f"{address.hostname}:{address.port}/{address.path.strip('/')}"
    return hashlib.sha256(location.encode()).hexdigest()[:8]


def _modified_at(path: Path) -> int:
    """The modification time in nanoseconds, or 0 if it cannot be read, as after another attempt removed the folder."""
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0


def _try_lock(lock: int, path: Path) -> bool:
    """Try to lock an open file. Returns False also if the file at `path` was removed or replaced meanwhile."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return path.exists() and os.fstat(lock).st_ino == path.stat().st_ino
