"""Prometheus metrics: counters of what this process did, gauges of what the store says at the scrape."""

from __future__ import annotations

from collections import Counter as Tally

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from contracts.tasks import TaskStatus
from control.applier import Answer, Outcome
from control.machine import RunState
from control.store.port import Change, Run, Store, StoreUnavailable

WORKER_WINDOW = 60.0
"""Seconds of silence after which a worker's slots no longer count."""
PHASE_BUCKETS = (1, 2, 5, 10, 30, 60, 300, 900, 1800, 3600, 3 * 3600, 6 * 3600, 12 * 3600, 24 * 3600)
START_BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 15, 60, 300, 1800, 3600)


class Metrics:
    """What an operator alerts on. Counters are of this process; gauges are the same in every control process."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry
        self._events = Counter("treadle_events", "Events decided.", ["outcome"], registry=registry)
        self._lost = Counter("treadle_leases_lost", "Attempts whose worker went silent.", ["phase"], registry=registry)
        self._seconds = Histogram(
            "treadle_phase_duration_seconds",
            "From the command to the end of the attempt.",
            ["phase", "outcome"],
            buckets=PHASE_BUCKETS,
            registry=registry,
        )
        self._start = Histogram(
            "treadle_phase_schedule_to_start_seconds",
            "From the command to the claim: how long work waits for a worker.",
            ["phase"],
            buckets=START_BUCKETS,
            registry=registry,
        )
        self._tasks = Gauge("treadle_tasks", "Tasks by status.", ["status"], registry=registry)
        self._outbox = Gauge("treadle_outbox_pending", "Messages decided and not confirmed.", registry=registry)
        self._oldest = Gauge("treadle_outbox_oldest_age_seconds", "Age of the oldest due one.", registry=registry)
        self._slots = Gauge("treadle_worker_slots", "Slots of live workers.", ["phase", "state"], registry=registry)
        self._up = Gauge("treadle_store_up", "1 where the database answered this scrape.", registry=registry)
        for outcome in Outcome:
            self._events.labels(outcome)

    def count(self, outcome: Outcome) -> None:
        """One event was decided."""
        self._events.labels(outcome).inc()

    def heard(self, change: Change, answer: Answer) -> None:
        """A listener for the applier: count a change after its commit."""
        self.count(answer.outcome)
        if change.closed is RunState.LOST and change.before.phase is not None:
            self._lost.labels(change.before.phase).inc()

    def ended(self, run: Run) -> None:
        """Observe the times of an attempt that has ended."""
        if run.claimed_at is not None:
            self._start.labels(run.key.phase).observe((run.claimed_at - run.created_at).total_seconds())
        if run.ended_at is not None:
            took = (run.ended_at - run.created_at).total_seconds()
            self._seconds.labels(run.key.phase, run.state).observe(took)

    async def render(self, store: Store) -> bytes:
        """The registry in Prometheus text format, its gauges read from the store just now."""
        try:
            await self._read(store)
            self._up.set(1)
        except StoreUnavailable:
            self._up.set(0)
        return generate_latest(self.registry)

    async def _read(self, store: Store) -> None:
        counts = await store.counts()
        depth, oldest = await store.outbox_depth()
        slots: Tally[tuple[str, str]] = Tally()
        for worker in await store.workers(WORKER_WINDOW):
            slots[worker.phase, "busy"] += worker.busy
            slots[worker.phase, "free"] += max(0, worker.slots - worker.busy)
        for status in TaskStatus:
            self._tasks.labels(status).set(counts.get(status, 0))
        self._outbox.set(depth)
        self._oldest.set(oldest)
        self._slots.clear()
        for (phase, state), number in slots.items():
            self._slots.labels(phase, state).set(number)
