"""The checks of `treadle doctor` that need no server: the name localhost, the work folder and the GPUs."""

from __future__ import annotations

import asyncio
import socket

from cli.doctor.checks import Check, CheckState
from infra.settings import Settings
from infra.worker.disk import Disks, existing, size_text
from infra.worker.gpus import GpuReader


def worker_checks(settings: Settings) -> list[Check]:
    """Check what a worker on this machine would check before it takes a command, and how the machine names itself."""
    return [_localhost(), _work_folder(settings), _gpus()]


def _localhost() -> Check:
    """Optional: Treadle uses 127.0.0.1, but other programs and addresses in settings may use the name."""
    try:
        address = socket.gethostbyname("localhost")
    except OSError:
        address = "no address"
    if address.startswith("127."):
        return Check("localhost", CheckState.FINE, address)
    fix = "add `127.0.0.1 localhost` to /etc/hosts"
    return Check("localhost", CheckState.OPTIONAL, f"the name localhost resolves to {address}", fix)


def _work_folder(settings: Settings) -> Check:
    """Test that the disks have room, and write a file to the work folder, or to the nearest folder above it."""
    disks = Disks(existing(settings.work_dir), settings.min_free_disk)
    problem = disks.problem() or disks.write_problem()
    if problem is not None:
        fix = "make room, or set TREADLE_WORK_DIR to another disk or TREADLE_MIN_FREE_DISK to a lower minimum"
        return Check("work folder", CheckState.BROKEN, f"a worker here takes no commands: it {problem}", fix)
    return Check("work folder", CheckState.FINE, f"{settings.work_dir}, {size_text(disks.free() or 0)} free")


def _gpus() -> Check:
    reader = GpuReader()
    states = asyncio.run(reader.read())
    if reader.lost is not None:
        return Check("GPUs", CheckState.BROKEN, f"this machine {reader.lost}", "see `nvidia-smi`")
    if not states:
        return Check("GPUs", CheckState.OPTIONAL, "no NVIDIA GPU is reported; programs run on the CPU")
    return Check("GPUs", CheckState.FINE, ", ".join(f"{gpu.name} ({size_text(gpu.memory_total)})" for gpu in states))
