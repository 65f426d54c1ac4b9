"""Prometheus counters and histograms: what this control process did."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Histogram

from contracts.events import LeaseLost, PhaseEvent
from control.applier import Answer, Outcome
from control.machine import RunState
from control.store.port import Change, Run

PHASE_BUCKETS = (1, 2, 5, 10, 30, 60, 300, 900, 1800, 3600, 3 * 3600, 6 * 3600, 12 * 3600, 24 * 3600)
START_BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 15, 60, 300, 1800, 3600)


class Metrics:
    """What an operator alerts on, summed over control processes."""

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
        self._gpu_seconds = Counter(
            "treadle_gpu_seconds",
            "Accelerator seconds of ended attempts; all but those of completed ones were spent in vain.",
            ["phase", "outcome"],
            registry=registry,
        )
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
        if isinstance(change.event, PhaseEvent | LeaseLost):
            self._gpu_seconds.labels(change.event.key.phase, change.closed or "stale").inc(change.event.gpu_seconds)

    def ended(self, run: Run) -> None:
        """Observe the times of an attempt that has ended, and what one that was ended from outside had used."""
        if run.state in {RunState.FENCED, RunState.CANCELLED}:
            self._gpu_seconds.labels(run.key.phase, run.state).inc(run.gpu_seconds)
        if run.claimed_at is not None:
            self._start.labels(run.key.phase).observe((run.claimed_at - run.created_at).total_seconds())
        if run.ended_at is not None:
            took = (run.ended_at - run.created_at).total_seconds()
            self._seconds.labels(run.key.phase, run.state).observe(took)
