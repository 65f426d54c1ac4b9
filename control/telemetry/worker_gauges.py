"""Prometheus gauges of the workers: slots, fitness, disks and GPUs."""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Sequence

from prometheus_client import CollectorRegistry, Gauge

from contracts.leases import GpuState, WorkerState
from contracts.tasks import Phase

MAX_LABELLED = 200
"""Workers, the first by name, that have series of their own; the others are in the sums only."""


class WorkerGauges:
    """Gauges that are set anew at each scrape, so that a worker that is gone has none."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._slots = Gauge(
            "treadle_worker_slots", "Slots of workers with a recent heartbeat.", ["phase", "state"], registry=registry
        )
        self._unfit = Gauge(
            "treadle_workers_unfit",
            "Workers that take no commands, because their machine is broken or its disk is full.",
            ["phase"],
            registry=registry,
        )
        self._free_disk = Gauge(
            "treadle_worker_free_disk_bytes", "Free bytes of a worker's disk.", ["worker"], registry=registry
        )
        gpu = ["worker", "gpu"]
        self._utilization = Gauge(
            "treadle_worker_gpu_utilization_ratio", "Utilization of a GPU, 0 to 1.", gpu, registry=registry
        )
        self._used = Gauge(
            "treadle_worker_gpu_memory_used_bytes", "Memory of a GPU that is in use.", gpu, registry=registry
        )
        self._total = Gauge("treadle_worker_gpu_memory_bytes", "Memory of a GPU.", gpu, registry=registry)
        self._temperature = Gauge(
            "treadle_worker_gpu_temperature_celsius", "Temperature of a GPU.", gpu, registry=registry
        )

    def set(self, workers: Sequence[WorkerState]) -> None:
        """Set all gauges from the workers that were seen lately."""
        self._count(workers)
        for gauge in (self._free_disk, self._utilization, self._used, self._total, self._temperature):
            gauge.clear()
        for worker in workers[:MAX_LABELLED]:
            if worker.free_disk is not None:
                self._free_disk.labels(worker.worker_id).set(worker.free_disk)
            for index, state in enumerate(worker.gpus):
                self._set_gpu(worker.worker_id, str(index), state)

    def _count(self, workers: Sequence[WorkerState]) -> None:
        slots: Tally[tuple[str, str]] = Tally()
        for worker in workers:
            slots[worker.phase, "busy"] += worker.busy
            slots[worker.phase, "free"] += max(0, worker.slots - worker.busy) if worker.unfit is None else 0
        self._slots.clear()
        for (phase, state), number in slots.items():
            self._slots.labels(phase, state).set(number)
        for phase in Phase:
            self._unfit.labels(phase).set(sum(w.phase is phase and w.unfit is not None for w in workers))

    def _set_gpu(self, worker: str, gpu: str, state: GpuState) -> None:
        self._used.labels(worker, gpu).set(state.memory_used)
        self._total.labels(worker, gpu).set(state.memory_total)
        if state.utilization is not None:
            self._utilization.labels(worker, gpu).set(state.utilization)
        if state.temperature is not None:
            self._temperature.labels(worker, gpu).set(state.temperature)
