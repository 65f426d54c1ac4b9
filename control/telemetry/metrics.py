"""Prometheus counters and histograms: what this control process did."""

from __future__ import annotations

from datetime import datetime
from functools import cache

from prometheus_client import CollectorRegistry, Counter, Histogram

from contracts.events import LeaseLost, PhaseEvent
from contracts.tasks import Phase
from control.apply.applier import Answer, Outcome
from control.machine.machine import RunState
from control.store.port import Change, Times

PHASE_BUCKETS = (1, 2, 5, 10, 30, 60, 300, 900, 1800, 3600, 3 * 3600, 6 * 3600, 12 * 3600, 24 * 3600)
START_BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 15, 60, 300, 1800, 3600)


class Metrics:
    """What an operator alerts on, summed over control processes. Labels are looked up once: that is the dear part."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry
        self._events = Counter("treadle_events", "Events decided.", ["outcome"], registry=registry)
        self._lost = Counter("treadle_leases_lost", "Attempts whose worker went silent.", ["phase"], registry=registry)
        self._seconds = Histogram(
            "treadle_phase_duration_seconds",
            "From when the command was due to the end of the attempt.",
            ["phase", "outcome"],
            buckets=PHASE_BUCKETS,
            registry=registry,
        )
        self._start = Histogram(
            "treadle_phase_schedule_to_start_seconds",
            "From when the command was due to the claim: how long work waits for a worker.",
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
        self._events_of, self._gpu_seconds_of = cache(self._events.labels), cache(self._gpu_seconds.labels)
        self._seconds_of, self._start_of = cache(self._seconds.labels), cache(self._start.labels)
        for outcome in Outcome:
            self._events_of(outcome)

    def count(self, outcome: Outcome) -> None:
        """One event was decided."""
        self._events_of(outcome).inc()

    def heard(self, change: Change, answer: Answer) -> None:
        """A listener for the applier: count a change after its commit."""
        self.count(answer.outcome)
        if change.closed is RunState.LOST and change.before.phase is not None:
            self._lost.labels(change.before.phase).inc()
        if isinstance(change.event, PhaseEvent | LeaseLost):
            self._gpu_seconds_of(change.event.key.phase, change.closed or "stale").inc(change.event.gpu_seconds)
        if answer.times is not None and change.closed is not None and change.before.phase is not None:
            self._ended(change.before.phase, change.closed, answer.times)

    def _ended(self, phase: Phase, state: RunState, times: Times) -> None:
        """Observe the times of an attempt that has ended, and what one that was ended from outside had used."""
        if state in {RunState.FENCED, RunState.CANCELLED}:
            self._gpu_seconds_of(phase, state).inc(times.gpu_seconds)
        if times.claimed_at is not None:
            self._start_of(phase).observe(_seconds(times.ordered_at, times.claimed_at))
        self._seconds_of(phase, state).observe(_seconds(times.ordered_at, times.ended_at))


def _seconds(begin: datetime, end: datetime) -> float:
    """A command that is ordered again after its claim was due again: no time is negative."""
    return max(0.0, (end - begin).total_seconds())
