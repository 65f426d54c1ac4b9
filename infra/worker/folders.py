"""A worker's folders on disk: `spool/`, and under `jobs/` one folder an attempt. One living worker each."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import structlog

from contracts.errors import TreadleError
from contracts.tasks import AttemptKey
from infra.child_environment import end_leftovers
from infra.worker.spool import Spool

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
        self.spool = Spool(folder / "spool")
        self._lock: int | None = None

    def lock(self) -> None:
        """Make it ours, and end what an earlier life left running. Raises FolderInUse."""
        self.jobs.mkdir(parents=True, exist_ok=True)
        lock = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(lock)
            raise FolderInUse(self.path) from error
        self._lock = lock
        end_leftovers(self.path)
        for stale in self.path.glob("child-*.log"):
            stale.unlink()

    def unlock(self) -> None:
        """Let another life have it."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def orphans(self) -> Iterator[WorkerFolder]:
        """The folders of dead workers beside this one, locked for the caller: their spools want sending."""
        for path in sorted(self.path.parent.iterdir()):
            orphan = WorkerFolder(path)
            if path == self.path or not (path / "lock").exists():
                continue
            try:
                orphan.lock()
            except FolderInUse:
                continue
            yield orphan

    def job(self, key: AttemptKey) -> Path:
        """An empty folder for an attempt."""
        folder = self.jobs / f"{key.task_id}-{key.iteration}-{key.phase}-a{key.attempt}"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        return folder

    def prune(self, active: set[Path]) -> None:
        """Remove the oldest folders of jobs that failed, beyond the last few."""
        kept = [path for path in self.jobs.iterdir() if path not in active]
        for path in sorted(kept, key=lambda path: path.stat().st_mtime_ns, reverse=True)[KEPT_JOBS:]:
            shutil.rmtree(path, ignore_errors=True)
