"""Makes one trace per iteration, from the timestamps in the database.

The ids derive from task, iteration and attempt, so every control process computes the same ids, and an attempt
whose worker was killed still gets a span (with status ERROR).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from opentelemetry.trace import SpanContext, Status, StatusCode
from opentelemetry.util.types import AttributeValue

from contracts.message import derived_id
from contracts.tasks import AttemptKey, Phase
from control.machine.machine import AttemptState
from control.machine.task import Task
from control.store.values import AttemptRecord, Change
from infra.telemetry import Tracing, inject, span_context

ERROR_STATES = frozenset({AttemptState.FAILED, AttemptState.LOST})
_SPAN_BITS = (1 << 64) - 1


def iteration_context(task_id: UUID, iteration: int) -> SpanContext:
    """The root span of an iteration's trace; identical in every process."""
    trace_id = derived_id(task_id, iteration, "trace").int
    return span_context(trace_id, derived_id(task_id, iteration, "span").int & _SPAN_BITS)


def phase_context(key: AttemptKey) -> SpanContext:
    """The span of one attempt, in its iteration's trace."""
    trace_id = iteration_context(key.task_id, key.iteration).trace_id
    return span_context(trace_id, key.derive("span").int & _SPAN_BITS)


def phase_span_name(phase: Phase) -> str:
    """The name of the spans of all attempts at this phase."""
    return f"phase {phase}"


def headers_for(task: Task) -> dict[str, str]:
    """The trace context for messages about the newest attempt of `task`, or about its iteration if it has none."""
    return inject(phase_context(task.key) if task.key else iteration_context(task.task_id, max(task.iteration, 1)))


def ends_iteration(change: Change) -> bool:
    """Whether this change ends its iteration: the iteration was evaluated, failed or cancelled."""
    before, after = change.before, change.after
    if change.stale or before.phase is None:
        return False
    return after.phase is None or (after.status.terminal and not before.status.terminal)


def emit_phase(tracing: Tracing, attempt: AttemptRecord) -> None:
    """Export the span of an ended attempt; its span event `claimed` marks the end of the schedule-to-start time."""
    if not tracing.on:
        return
    key = attempt.key
    span = tracing.begin(
        phase_span_name(key.phase),
        phase_context(key),
        parent=iteration_context(key.task_id, key.iteration),
        start=_ns(attempt.created_at),
        attributes=_attributes(attempt),
    )
    if attempt.claimed_at is not None:
        span.add_event("claimed", timestamp=_ns(attempt.claimed_at))
    span.set_status(_status(attempt))
    span.end(_ns(attempt.ended_at or attempt.created_at))


def emit_iteration(tracing: Tracing, task: Task, attempts: Sequence[AttemptRecord]) -> None:
    """Export the root span over all `attempts` of the task's current iteration, linked to the previous iteration.

    A retry after FAILED exports the iteration again, with the same ids and a later end.
    """
    if not tracing.on or not attempts:
        return
    n = task.iteration
    span = tracing.begin(
        "iteration",
        iteration_context(task.task_id, n),
        parent=None,
        start=_ns(min(attempt.created_at for attempt in attempts)),
        attributes={
            "treadle.task.id": str(task.task_id),
            "treadle.task.mode": task.spec.mode.value,
            "treadle.task.status": task.status.value,
            "treadle.iteration": n,
        },
        links=[iteration_context(task.task_id, n - 1)] if n > 1 else [],
    )
    if attempts[-1].state in ERROR_STATES:
        span.set_status(Status(StatusCode.ERROR, task.message))
    span.end(_ns(max(attempt.ended_at or attempt.created_at for attempt in attempts)))


def _attributes(attempt: AttemptRecord) -> dict[str, AttributeValue]:
    key, event = attempt.key, attempt.event or {}
    attributes: dict[str, AttributeValue | None] = {
        "treadle.task.id": str(key.task_id),
        "treadle.iteration": key.iteration,
        "treadle.phase": key.phase.value,
        "treadle.attempt": key.attempt,
        "treadle.attempt.state": attempt.state.value,
        "treadle.worker.id": attempt.worker_id,
        "treadle.gpu_seconds": event.get("gpu_seconds"),
        "treadle.work_seconds": event.get("work_seconds"),
        "treadle.rows": event.get("rows"),
        "treadle.steps": event.get("steps"),
        "treadle.score.dev": _value(event.get("dev")),
        "treadle.score.test": _value(event.get("test")),
        "error.type": event.get("failure") or (attempt.state.value if attempt.state in ERROR_STATES else None),
    }
    return {name: value for name, value in attributes.items() if value is not None}


def _value(score: Mapping[str, Any] | None) -> float | None:
    return float(score["value"]) if score else None


def _status(attempt: AttemptRecord) -> Status:
    if attempt.state in ERROR_STATES:
        return Status(StatusCode.ERROR, attempt.message or (attempt.event or {}).get("message"))
    return Status(StatusCode.OK if attempt.state is AttemptState.COMPLETED else StatusCode.UNSET)


def _ns(at: datetime) -> int:
    """Nanoseconds since the epoch."""
    return int(at.timestamp()) * 1_000_000_000 + at.microsecond * 1000
