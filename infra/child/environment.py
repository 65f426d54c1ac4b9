"""The environment of child processes: secrets are left out, and a mark identifies processes that were left running."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import psutil
import structlog

MARK_VARIABLE = "WORKER_FOLDER"
"""Set to the worker's folder in every child process and inherited by its own child processes."""
ALLOWED_VARIABLES = frozenset({"HF_TOKEN", "TREADLE_DEVICE"})
"""Programs need these: to load a gated model, and to choose their device."""
SECRET_PREFIXES = ("TREADLE_", "AWS_", "AMQP", "RABBITMQ_", "MINIO_", "RCLONE_", "PG", "POSTGRES", "OTEL_", "DATABASE_")
SECRET_WORDS = ("SECRET", "PASSWORD", "PASSWD", "TOKEN", "CREDENTIAL", "API_KEY", "ACCESS_KEY", "PRIVATE_KEY")
FIXED_VARIABLES = {"HF_HUB_DISABLE_TELEMETRY": "1", "DO_NOT_TRACK": "1", "TOKENIZERS_PARALLELISM": "false"}
DEFAULT_VARIABLES = {"OMP_WAIT_POLICY": "PASSIVE"}
"""Used if the worker's environment sets no other value. Torch's threads spin while they wait for one another, which
slows training if other processes use the same cores."""
KILL_TIMEOUT = 5.0
"""Seconds for which killed processes may take to end."""

log = structlog.get_logger(__name__)


def child_environment(ours: Mapping[str, str], folder: Path, temporary: Path) -> dict[str, str]:
    """The worker's environment without secrets; `temporary` is for files that are deleted when the child has ended."""
    kept = {name: value for name, value in ours.items() if name in ALLOWED_VARIABLES or not _may_be_secret(name)}
    own = {MARK_VARIABLE: str(folder), "TMPDIR": str(temporary)}
    return {**DEFAULT_VARIABLES, **kept, **FIXED_VARIABLES, **own}


def end_orphaned_children(folder: Path) -> None:
    """Kill processes that an earlier worker in `folder` left running; the mark distinguishes them from reused ids."""
    leftovers = [process for process in psutil.process_iter() if _mark(process) == str(folder)]
    for process in leftovers:
        log.warning("orphaned_child_ended", pid=process.pid, worker_folder=str(folder))
        with suppress(psutil.Error):
            process.kill()
    psutil.wait_procs(leftovers, timeout=KILL_TIMEOUT)


def _may_be_secret(name: str) -> bool:
    upper = name.upper()
    return upper.startswith(SECRET_PREFIXES) or (
        any(word in upper for word in SECRET_WORDS) and upper != "TOKENIZERS_PARALLELISM"
    )


def _mark(process: psutil.Process) -> str | None:
    try:
        return process.environ().get(MARK_VARIABLE)
    except (psutil.Error, OSError):  # the process has ended, or belongs to another user
        return None
