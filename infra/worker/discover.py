"""Which workers are installed: each room names its own under the entry-point group `treadle.workers`."""

from __future__ import annotations

from importlib.metadata import entry_points
from typing import Any

from infra.errors import BadConfiguration
from infra.worker.plan import PhaseWorker

GROUP = "treadle.workers"


def names() -> list[str]:
    """The workers that can be started here, sorted."""
    return sorted({point.name for point in entry_points(group=GROUP)})


def load(name: str) -> PhaseWorker[Any]:
    """The worker of this name. Raises BadConfiguration where it is not installed, or is no worker."""
    found = [point for point in entry_points(group=GROUP) if point.name == name]
    if not found:
        raise BadConfiguration(
            f"there is no worker {name!r}; expected one of {', '.join(names()) or 'none: nothing is installed'}",
            field="worker",
        )
    worker = found[0].load()
    if not isinstance(worker, PhaseWorker):
        raise BadConfiguration(
            f"{found[0].value} is a {type(worker).__name__}; expected a PhaseWorker", field=f"{GROUP}.{name}"
        )
    return worker
