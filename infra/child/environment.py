"""What a child may know of the environment, and how its leftovers are recognised in a later life."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import psutil
import structlog

MARK = "WORKER_FOLDER"
"""Set in every child and inherited by what it starts: whose it is."""
KEPT = frozenset({"HF_TOKEN", "TREADLE_DEVICE"})
"""Needed by a program itself: to load a gated model, and to choose its device."""
PREFIXES = ("TREADLE_", "AWS_", "AMQP", "RABBITMQ_", "MINIO_", "RCLONE_", "PG", "POSTGRES", "OTEL_", "DATABASE_")
WORDS = ("SECRET", "PASSWORD", "PASSWD", "TOKEN", "CREDENTIAL", "API_KEY", "ACCESS_KEY", "PRIVATE_KEY")
SETTINGS = {"HF_HUB_DISABLE_TELEMETRY": "1", "DO_NOT_TRACK": "1", "TOKENIZERS_PARALLELISM": "false"}
DEFAULTS = {"OMP_WAIT_POLICY": "PASSIVE"}
"""Where we set nothing else. Torch's threads spin while they wait for one another, which on cores that others use
too (a broker, a database, another child) made a training step five times slower."""
LONGEST_END = 5.0

log = structlog.get_logger(__name__)


def child_environment(ours: Mapping[str, str], folder: Path) -> dict[str, str]:
    """Our environment without secrets: programs read and write their folder, and nothing else of ours."""
    kept = {name: value for name, value in ours.items() if name in KEPT or not _may_be_secret(name)}
    return {**DEFAULTS, **kept, **SETTINGS, MARK: str(folder)}


def end_leftovers(folder: Path) -> None:
    """Kill what an earlier life of the worker in `folder` left running. Recycled process ids lack the mark."""
    left = [process for process in psutil.process_iter() if _mark(process) == str(folder)]
    for process in left:
        log.warning("leftover_ended", pid=process.pid, worker_folder=str(folder))
        with suppress(psutil.Error):
            process.kill()
    psutil.wait_procs(left, timeout=LONGEST_END)


def _may_be_secret(name: str) -> bool:
    upper = name.upper()
    return upper.startswith(PREFIXES) or (any(word in upper for word in WORDS) and upper != "TOKENIZERS_PARALLELISM")


def _mark(process: psutil.Process) -> str | None:
    try:
        return process.environ().get(MARK)
    except (psutil.Error, OSError):  # gone meanwhile, or somebody else's
        return None
