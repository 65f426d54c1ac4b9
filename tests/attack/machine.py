"""Machines that break and programs that never end."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from contracts.tasks import Phase
from tests.acceptance.processes import environment
from tests.attack.target import RECOVERY, Target, require
from tests.chaos.processes import Service
from tests.eventually import eventually

DISK, MINIMUM = 8 * 2**20, 4 * 2**20
"""Bytes of the small disk, and of the room that its worker needs."""
INODES = 400
"""Files and folders that the other small disk can have."""
TASKS = 5


async def a_worker_whose_disk_is_full(target: Target) -> int:
    """It takes nothing while its disk is full, says so, and comes back by itself."""
    folder = target.folder / "full-disk"
    async with _small_disk(folder):
        filler = folder / "filler"
        filler.write_bytes(b"x" * (DISK - MINIMUM // 2))
        async with _worker(target, "full-disk", folder, min_free_disk=MINIMUM):
            await eventually(lambda: _unfit(target, "full-disk", True), "the worker to report its disk", RECOVERY)
            await _completed(target, "full-disk")
            filler.unlink()
            await eventually(lambda: _unfit(target, "full-disk", False), "the worker to come back", RECOVERY)
    return TASKS


async def a_worker_without_inodes(target: Target) -> int:
    """Its disk gets as many small files as it can have while the worker runs."""
    folder = target.folder / "no-inodes"
    async with _small_disk(folder, f"nr_inodes={INODES}"), _worker(target, "no-inodes", folder, min_free_disk=1):
        await eventually(lambda: _unfit(target, "no-inodes", False), "the worker to start", RECOVERY)
        files = await asyncio.to_thread(_fill_with_files, folder)
        await eventually(lambda: _unfit(target, "no-inodes", True), "the worker to report its disk", RECOVERY)
        await _completed(target, "no-inodes")
        for file in files:
            file.unlink()
        await eventually(lambda: _unfit(target, "no-inodes", False), "the worker to come back", RECOVERY)
    return len(files)


async def a_worker_whose_disk_is_read_only(target: Target) -> int:
    """The disk becomes read-only while the worker runs."""
    folder = target.folder / "read-only"
    async with _small_disk(folder), _worker(target, "read-only", folder, min_free_disk=1):
        await eventually(lambda: _unfit(target, "read-only", False), "the worker to start", RECOVERY)
        async with _mounted(folder, "ro"):  # over it: a disk with files open for writing cannot be mounted again
            await eventually(lambda: _unfit(target, "read-only", True), "the worker to report its disk", RECOVERY)
            await _completed(target, "read-only")
        await eventually(lambda: _unfit(target, "read-only", False), "the worker to come back", RECOVERY)
    return TASKS


async def a_program_that_exceeds_its_time_limit(target: Target) -> int:
    """A training that takes longer than its task allows."""
    task = await target.submit(seconds=4.0, limits={"train_seconds": 1.0}, max_failures=0)
    state = await target.ended(task)
    require((state["status"], state["reason"]) == ("FAILED", "timed_out"), f"it ended {state['reason']}")
    return 1


async def a_program_that_reports_nothing(target: Target) -> int:
    """A training without progress for longer than its task allows."""
    task = await target.submit(seconds=4.0, limits={"stall_seconds": 1.0}, max_failures=0)
    state = await target.ended(task)
    require((state["status"], state["reason"]) == ("FAILED", "stalled"), f"it ended {state['reason']}")
    return 1


async def _completed(target: Target, sick: str) -> None:
    """Require that good tasks complete, and that the sick worker ran no attempt of them."""
    tasks = [await target.submit() for _ in range(TASKS)]
    for task in tasks:
        state = await target.ended(task)
        require(state["status"] == "COMPLETED", f"a good task ended {state['status']}")
        workers = [attempt["worker_id"] for attempt in await target.attempts(task)]
        require(sick not in workers, f"the worker {sick} took a command")


async def _unfit(target: Target, worker: str, unfit: bool) -> bool:
    rows = await target.database.fetch("SELECT unfit FROM workers WHERE worker_id = $1", worker)
    return any((row["unfit"] is not None) is unfit for row in rows)


@asynccontextmanager
async def _worker(target: Target, name: str, folder: Path, **more: object) -> AsyncIterator[None]:
    """One more optimizer, with its files in `folder`."""
    settings = target.servers.settings()
    environ = environment(settings, worker_id=name, work_dir=folder / "work", **more)
    command = [sys.executable, "-m", "tests.chaos.worker", Phase.OPTIMIZE.value]
    service = Service(name, command, environ, target.folder)
    service.start()
    try:
        yield
    finally:
        service.end()
        await asyncio.to_thread(service.join)


def _fill_with_files(folder: Path) -> list[Path]:
    files = []
    with suppress(OSError):
        for number in range(INODES):
            (folder / f"file-{number}").touch()
            files.append(folder / f"file-{number}")
    return files


@asynccontextmanager
async def _small_disk(folder: Path, options: str = f"size={DISK}") -> AsyncIterator[None]:
    await asyncio.to_thread(folder.mkdir)
    async with _mounted(folder, options):
        yield


@asynccontextmanager
async def _mounted(folder: Path, options: str) -> AsyncIterator[None]:
    await asyncio.to_thread(subprocess.run, ["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], check=True)
    try:
        yield
    finally:
        await asyncio.to_thread(subprocess.run, ["umount", "-l", folder], check=True)
