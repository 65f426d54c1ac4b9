"""Makes the trace of an iteration from the rows of its attempts, with the ids of the exported spans. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from opentelemetry.trace import format_span_id, format_trace_id

from contracts.traces import PhaseSpan, StandstillView, TraceView
from control.gateway.views import work_fields
from control.machine.task import Task
from control.store.values import AttemptRecord, Standstill
from control.telemetry.spans import iteration_context, phase_context, phase_span_name
from control.telemetry.work import clock_of, reported_work, work_share


def trace_view(
    task: Task, attempts: Sequence[AttemptRecord], standstills: Sequence[Standstill], now: datetime
) -> TraceView:
    """The trace of the iteration to which all `attempts` belong, oldest first; there is at least one."""
    iteration, clocks = attempts[0].key.iteration, [clock_of(attempt) for attempt in attempts]
    context, ended_at = iteration_context(task.task_id, iteration), _ended_at(task, attempts)
    began_at = min(min(each.due_at, each.claimed_at or each.due_at, each.ended_at or each.due_at) for each in attempts)
    return TraceView(
        task_id=task.task_id,
        task_name=task.spec.task_name,
        status=task.status,
        iteration=iteration,
        iterations=task.iteration,
        trace_id=format_trace_id(context.trace_id),
        span_id=format_span_id(context.span_id),
        now=now,
        began_at=began_at,
        ended_at=ended_at,
        spans=tuple(_phase_span(attempt) for attempt in attempts),
        standstills=tuple(
            StandstillView.model_validate(stand)
            for stand in standstills
            if (stand.ended_at or now) > began_at and (ended_at is None or stand.began_at < ended_at)
        ),
        **work_fields(work_share([clock for clock in clocks if clock is not None], standstills)),
    )


def _ended_at(task: Task, attempts: Sequence[AttemptRecord]) -> datetime | None:
    """When the iteration ended; None if it is the task's present one and a phase of it has not ended."""
    if attempts[0].key.iteration == task.iteration and task.phase is not None and not task.status.terminal:
        return None
    return max((attempt.ended_at for attempt in attempts if attempt.ended_at is not None), default=None)


def _phase_span(attempt: AttemptRecord) -> PhaseSpan:
    key, context, event = attempt.key, phase_context(attempt.key), attempt.event or {}
    return PhaseSpan(
        span_id=format_span_id(context.span_id),
        parent_span_id=format_span_id(iteration_context(key.task_id, key.iteration).span_id),
        name=phase_span_name(key.phase),
        phase=key.phase,
        attempt=key.attempt,
        status=attempt.state.value,
        worker_id=attempt.worker_id,
        failure=event.get("failure"),
        message=attempt.message or event.get("message"),
        created_at=attempt.created_at,
        due_at=attempt.due_at,
        started_at=attempt.claimed_at,
        completed_at=attempt.ended_at,
        work_seconds=reported_work(attempt),
    )
