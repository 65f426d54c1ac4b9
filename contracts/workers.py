"""The workers and the state of their machines, as HTTP responses."""

from __future__ import annotations

from contracts.http import View
from contracts.tasks import Phase


class GpuView(View):
    """One GPU: memory in bytes, utilization from 0 to 1, temperature in degrees Celsius; None: it has no sensor."""

    name: str
    utilization: float | None
    memory_used: int
    memory_total: int
    temperature: float | None


class WorkerView(View):
    """One worker that sent a request in the last minute."""

    worker_id: str
    phase: Phase
    host: str
    slots: int
    busy: int
    free_disk: int | None
    """Free bytes on the disk of its work folder; None: not known."""
    gpus: tuple[GpuView, ...]
    unfit: str | None
    """Why it takes no commands, such as `has 5.0 MiB free in …`; None: it takes them."""
