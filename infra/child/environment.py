"""The environment of child processes, without secrets."""

from __future__ import annotations

from collections.abc import Mapping

ALLOWED_VARIABLES = frozenset({"HF_TOKEN", "TREADLE_DEVICE"})
"""Programs need these: to load a gated model, and to choose their device."""
SECRET_PREFIXES = ("TREADLE_", "AWS_", "AMQP", "RABBITMQ_", "MINIO_", "RCLONE_", "PG", "POSTGRES", "OTEL_", "DATABASE_")
SECRET_WORDS = ("SECRET", "PASSWORD", "PASSWD", "TOKEN", "CREDENTIAL", "API_KEY", "ACCESS_KEY", "PRIVATE_KEY")
FIXED_VARIABLES = {"HF_HUB_DISABLE_TELEMETRY": "1", "DO_NOT_TRACK": "1", "TOKENIZERS_PARALLELISM": "false"}
DEFAULT_VARIABLES = {
    "GOMP_SPINCOUNT": "600",
    "MALLOC_MMAP_THRESHOLD_": str(32 * 2**20),
    "MALLOC_TRIM_THRESHOLD_": str(2**30),
}
"""Used if the worker's environment sets no other values. A thread of torch that waits for the others spins for some
microseconds, which is what most waits take, and then sleeps: longer spinning takes time from other processes, and to
wake a thread costs more than a short wait. glibc returns the memory of each freed tensor to the system and then gets it
anew, with zeros, in every step; with these limits, in bytes, it keeps tensors of up to 32 MiB."""


def child_environment(ours: Mapping[str, str]) -> dict[str, str]:
    """The worker's environment without secrets."""
    kept = {name: value for name, value in ours.items() if name in ALLOWED_VARIABLES or not _may_be_secret(name)}
    return {**DEFAULT_VARIABLES, **kept, **FIXED_VARIABLES}


def _may_be_secret(name: str) -> bool:
    upper = name.upper()
    return upper.startswith(SECRET_PREFIXES) or (
        any(word in upper for word in SECRET_WORDS) and upper != "TOKENIZERS_PARALLELISM"
    )
