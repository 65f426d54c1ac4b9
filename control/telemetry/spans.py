"""One trace an iteration, made by control from the database's times.

The ids derive from task, iteration and attempt, so any control process can say what another one's span is
called, and an attempt whose worker was killed still leaves a (red) span.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from opentelemetry.trace import SpanContext, Status, StatusCode
from opentelemetry.util.types import AttributeValue

from contracts.message import derived_id
from contracts.tasks import AttemptKey
from control.machine.machine import RunState
from control.machine.task import Task
from control.store.port import Change, Run
from infra.telemetry import Tracing, inject, span_context

RED = frozenset({RunState.FAILED, RunState.LOST})
_SPAN_BITS = (1 << 64) - 1


def iteration_context(task_id: UUID, iteration: int) -> SpanContext:
    """The root span of an iteration's trace; the same in every process."""
    trace_id = derived_id(task_id, iteration, "trace").int
    return span_context(trace_id, derived_id(task_id, iteration, "span").int & _SPAN_BITS)


def phase_context(key: AttemptKey) -> SpanContext:
    """The span of one attempt, in its iteration's trace."""
    trace_id = iteration_context(key.task_id, key.iteration).trace_id
    return span_context(trace_id, key.derive("span").int & _SPAN_BITS)


def headers_for(task: Task) -> dict[str, str]:
    """The trace context for messages about the newest attempt of `task`, or about its iteration."""
    return inject(phase_context(task.key) if task.key else iteration_context(task.task_id, max(task.iteration, 1)))


def ends_iteration(change: Change) -> bool:
    """Whether this change is the last of its iteration: it was evaluated, failed or cancelled."""
    before, after = change.before, change.after
    if change.stale or before.phase is None:
        return False
    return after.phase is None or (after.status.terminal and not before.status.terminal)


def emit_phase(tracing: Tracing, run: Run) -> None:
    """Export the span of an attempt that has ended; its schedule-to-start is the event `claimed`."""
    if not tracing.on:
        return
    key = run.key
    span = tracing.begin(
        f"phase {key.phase}",
        phase_context(key),
        parent=iteration_context(key.task_id, key.iteration),
        start=_ns(run.created_at),
        attributes=_attributes(run),
    )
    if run.claimed_at is not None:
        span.add_event("claimed", timestamp=_ns(run.claimed_at))
    span.set_status(_status(run))
    span.end(_ns(run.ended_at or run.created_at))


def emit_iteration(tracing: Tracing, task: Task, runs: Sequence[Run]) -> None:
    """Export the root span over `runs`, all attempts of the task's present iteration; it links to the one before.

    An iteration that is retried after FAILED is exported again, with the same ids and a later end.
    """
    if not tracing.on or not runs:
        return
    n = task.iteration
    span = tracing.begin(
        "iteration",
        iteration_context(task.task_id, n),
        parent=None,
        start=_ns(min(run.created_at for run in runs)),
        attributes={
            "treadle.task.id": str(task.task_id),
            "treadle.task.mode": task.spec.mode.value,
            "treadle.task.status": task.status.value,
            "treadle.iteration": n,
        },
        links=[iteration_context(task.task_id, n - 1)] if n > 1 else [],
    )
    if runs[-1].state in RED:
        span.set_status(Status(StatusCode.ERROR, task.message))
    span.end(_ns(max(run.ended_at or run.created_at for run in runs)))


def _attributes(run: Run) -> dict[str, AttributeValue]:
    key, event = run.key, run.event or {}
    found: dict[str, AttributeValue | None] = {
        "treadle.task.id": str(key.task_id),
        "treadle.iteration": key.iteration,
        "treadle.phase": key.phase.value,
        "treadle.attempt": key.attempt,
        "treadle.attempt.state": run.state.value,
        "treadle.worker.id": run.worker_id,
        "treadle.gpu_seconds": event.get("gpu_seconds"),
        "treadle.rows": event.get("rows"),
        "treadle.steps": event.get("steps"),
        "treadle.score.dev": _value(event.get("dev")),
        "treadle.score.test": _value(event.get("test")),
        "error.type": event.get("failure") or (run.state.value if run.state in RED else None),
    }
    return {name: value for name, value in found.items() if value is not None}


def _value(score: Mapping[str, Any] | None) -> float | None:
    return float(score["value"]) if score else None


def _status(run: Run) -> Status:
    if run.state in RED:
        return Status(StatusCode.ERROR, run.message or (run.event or {}).get("message"))
    return Status(StatusCode.OK if run.state is RunState.COMPLETED else StatusCode.UNSET)


def _ns(at: datetime) -> int:
    """Nanoseconds since the epoch."""
    return int(at.timestamp()) * 1_000_000_000 + at.microsecond * 1000
