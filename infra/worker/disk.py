"""Whether the disks that an attempt needs have room and can be written to."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pydantic import ByteSize

DEFAULT_MINIMUM = 2**30
DEFAULT_SHARE = 20
"""Without a setting a disk needs DEFAULT_MINIMUM free bytes, or a twentieth of its size if that is less."""
TEMPORARY_MINIMUM = 64 * 2**20
"""Free bytes of the temporary folder if it is on another disk: programs write only small files there."""
MINIMUM_INODES = 100
"""Free inodes, on disks that count them; a job has some dozens of files."""
RETURN_FACTOR = 1.1
"""Free bytes, as a multiple of the minimum, from which a worker whose disk was full takes commands again."""
PROBE_SIZE = 4096
"""Bytes that a probe writes."""


@dataclass(frozen=True, slots=True)
class Disks:
    """The disk of `folder`, and that of temporary files; `minimum` is in bytes, None: see DEFAULT_MINIMUM."""

    folder: Path
    minimum: int | None = None
    statvfs: Callable[[Path], os.statvfs_result] = os.statvfs

    def free(self) -> int | None:
        """Free bytes for this user on the disk of the folder; None if they cannot be read."""
        try:
            return _free(self.statvfs(existing(self.folder)))
        except OSError:
            return None

    def problem(self, *, was_full: bool = False) -> str | None:
        """What is wrong with the disks, as a predicate of the worker such as `has 5 MiB free in …`; None: nothing."""
        folder = self.folder
        try:
            folder, temporary = existing(folder), Path(tempfile.gettempdir())
            return self._problem_of(folder, None, was_full) or (
                self._problem_of(temporary, TEMPORARY_MINIMUM, was_full)
                if os.stat(temporary).st_dev != os.stat(folder).st_dev
                else None
            )
        except OSError as error:
            return f"cannot use {error.filename or folder}: {error.strerror or error}"

    def write_problem(self) -> str | None:
        """Why a small file cannot be written and synced in the folder, as a predicate of the worker; None: it can."""
        probe = self.folder / f".probe-{os.getpid()}"
        try:
            _write_and_sync(probe)
        except OSError as error:
            return f"cannot write to {self.folder}: {error.strerror or error}"
        finally:
            _remove(probe)
        return None

    def _problem_of(self, folder: Path, limit: int | None, was_full: bool) -> str | None:
        disk = self.statvfs(folder)
        if disk.f_flag & os.ST_RDONLY:
            return f"cannot write to {folder}: its disk is mounted read-only"
        if disk.f_files and disk.f_favail < MINIMUM_INODES:
            return f"has {disk.f_favail} free inodes on the disk of {folder}, needs {MINIMUM_INODES}"
        needed = self._needed(disk) if limit is None else min(limit, self._needed(disk))
        needed = round(needed * RETURN_FACTOR) if was_full else needed
        if _free(disk) >= needed:
            return None
        return f"has {size_text(_free(disk))} free in {folder}, needs {size_text(needed)}"

    def _needed(self, disk: os.statvfs_result) -> int:
        if self.minimum is not None:
            return self.minimum
        return min(DEFAULT_MINIMUM, disk.f_blocks * disk.f_frsize // DEFAULT_SHARE)


def size_text(size: int) -> str:
    """A number of bytes for people, such as `12.0 MiB`."""
    return ByteSize(size).human_readable(separator=" ")


def existing(folder: Path) -> Path:
    """The folder, or the nearest folder above it that exists."""
    return next((path for path in (folder, *folder.parents) if path.exists()), Path("/"))


def _free(disk: os.statvfs_result) -> int:
    return disk.f_bavail * disk.f_frsize


def _write_and_sync(path: Path) -> None:
    with path.open("wb") as file:
        file.write(bytes(PROBE_SIZE))
        file.flush()
        os.fsync(file.fileno())


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError:
        return  # the write has failed too, and the problem is reported
