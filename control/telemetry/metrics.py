"""Prometheus counters and histograms of this control process."""

from __future__ import annotations

from datetime import datetime
from functools import cache

from prometheus_client import CollectorRegistry, Counter, Histogram

from contracts.events import LeaseLost, PhaseEvent
from contracts.tasks import Phase
from control.apply.applier import EventOutcome, EventResult
from control.machine.machine import AttemptState
from control.store.values import AttemptTimes, Change

PHASE_BUCKETS = (1, 2, 5, 10, 30, 60, 300, 900, 1800, 3600, 3 * 3600, 6 * 3600, 12 * 3600, 24 * 3600)
START_BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 15, 60, 300, 1800, 3600)


class Metrics:
    """Counters and histograms for alerts, to be summed over control processes; `labels()` is slow, so it is cached."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry
        self._events = Counter("treadle_events", "Events handled, by outcome.", ["outcome"], registry=registry)
        self._lost = Counter("treadle_leases_lost", "Attempts whose lease was lost.", ["phase"], registry=registry)
        self._seconds = Histogram(
            "treadle_phase_duration_seconds",
            "Seconds from the time when the command was due to the end of the attempt.",
            ["phase", "outcome"],
            buckets=PHASE_BUCKETS,
            registry=registry,
        )
        self._start = Histogram(
            "treadle_phase_schedule_to_start_seconds",
            "Seconds from the time when the command was due to its claim by a worker.",
            ["phase"],
            buckets=START_BUCKETS,
            registry=registry,
        )
        self._gpu_seconds = Counter(
            "treadle_gpu_seconds",
            "Accelerator seconds of ended attempts; those with another outcome than completed were wasted.",
            ["phase", "outcome"],
            registry=registry,
        )
        self._work_seconds = Counter(
            "treadle_work_seconds",
            "Seconds in which programs ran, without imports and transfers, as their ended attempts reported.",
            ["phase", "outcome"],
            registry=registry,
        )
        self._work_seconds_of = cache(self._work_seconds.labels)
        self._events_of, self._gpu_seconds_of = cache(self._events.labels), cache(self._gpu_seconds.labels)
        self._seconds_of, self._start_of = cache(self._seconds.labels), cache(self._start.labels)
        for outcome in EventOutcome:
            self._events_of(outcome)

    def count(self, outcome: EventOutcome) -> None:
        """Count one event by its outcome."""
        self._events_of(outcome).inc()

    def on_change(self, change: Change, result: EventResult) -> None:
        """Count a committed change; a listener for the applier."""
        self.count(result.outcome)
        if change.ended_as is AttemptState.LOST and change.before.phase is not None:
            self._lost.labels(change.before.phase).inc()
        if isinstance(change.event, PhaseEvent | LeaseLost):
            self._gpu_seconds_of(change.event.key.phase, change.ended_as or "stale").inc(change.event.gpu_seconds)
        if isinstance(change.event, PhaseEvent):
            self._work_seconds_of(change.event.key.phase, change.ended_as or "stale").inc(change.event.work_seconds)
        if result.times is not None and change.ended_as is not None and change.before.phase is not None:
            self._observe_end(change.before.phase, change.ended_as, result.times)

    def _observe_end(self, phase: Phase, state: AttemptState, times: AttemptTimes) -> None:
        """Observe the times of an ended attempt, and the accelerator seconds of one that was fenced or cancelled."""
        if state in {AttemptState.FENCED, AttemptState.CANCELLED}:
            self._gpu_seconds_of(phase, state).inc(times.gpu_seconds)
        if times.claimed_at is not None:
            self._start_of(phase).observe(_seconds(times.due_at, times.claimed_at))
        self._seconds_of(phase, state).observe(_seconds(times.due_at, times.ended_at))


def _seconds(begin: datetime, end: datetime) -> float:
    """Seconds from `begin` to `end`, at least 0, because a command may become due again after its claim."""
    return max(0.0, (end - begin).total_seconds())
