"""Ends child processes that an earlier worker left running; it recorded them in its folder."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from pathlib import Path

import psutil
import structlog
from pydantic import BaseModel, ValidationError

from infra.private_folders import open_private

SUFFIX = ".process"
"""Of the files with the records."""
PROC = Path("/proc")
KILL_TIMEOUT = 5.0
"""Seconds for which killed processes may take to end."""

log = structlog.get_logger(__name__)


class ProcessRecord(BaseModel):
    """One child process, the leader of a group. A later process with the same id has another start time."""

    pid: int
    started: float
    machine: str
    """The boot of the machine and the namespace of process ids: containers may share a disk."""


def record_process(pid: int, file: Path) -> None:
    """Record a process, if it still runs, in `file`, which has the suffix `.process`."""
    started = start_time(pid)
    if started is not None:
        record = ProcessRecord(pid=pid, started=started, machine=_machine())
        with open_private(file, "wb") as lines:
            lines.write(record.model_dump_json().encode())


def end_leftovers(folder: Path) -> None:
    """Kill the recorded processes that still run, and all in their groups, and delete the records."""
    for file in folder.glob(f"*{SUFFIX}"):
        with suppress(ValidationError):  # the worker was killed while it wrote the record
            leftover = ProcessRecord.model_validate_json(file.read_bytes())
            if leftover.machine == _machine() and start_time(leftover.pid) in {None, leftover.started}:
                _end_group(leftover.pid, folder)
        file.unlink(missing_ok=True)


def start_time(pid: int) -> float | None:
    """When a process started, None if there is none; on Linux in clock ticks since the boot."""
    try:
        if not PROC.exists():
            return psutil.Process(pid).create_time()
        fields = (PROC / str(pid) / "stat").read_bytes().rpartition(b")")[2].split()
        return float(fields[19])
    except (FileNotFoundError, ProcessLookupError, psutil.Error):
        return None


def _end_group(leader: int, folder: Path) -> None:
    """Kill a process and its group; its own children may have outlived it. Returns when they have ended."""
    members = [process for process in psutil.process_iter() if _group_of(process.pid) == leader]
    for process in members:
        log.warning("orphaned_child_ended", pid=process.pid, worker_folder=str(folder))
        with suppress(psutil.Error):
            process.send_signal(signal.SIGKILL)
    psutil.wait_procs(members, timeout=KILL_TIMEOUT)


def _group_of(pid: int) -> int | None:
    try:
        return os.getpgid(pid)
    except (ProcessLookupError, PermissionError):
        return None


def _machine() -> str:
    if not PROC.exists():
        return ""
    boot = (PROC / "sys/kernel/random/boot_id").read_text().strip()
    return f"{boot} {os.readlink(PROC / 'self/ns/pid')}"
