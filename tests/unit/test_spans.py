from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import pytest_asyncio
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from contracts.submissions import CancelTask, PauseTask
from contracts.tasks import AttemptKey, Phase
from control.machine.machine import AttemptState, MachineEvent, advance
from control.machine.task import Task
from control.store.values import AttemptRecord, Change
from control.telemetry.spans import (
    emit_iteration,
    emit_phase,
    ends_iteration,
    headers_for,
    iteration_context,
    phase_context,
)
from infra.telemetry import Tracing, extract
from tests.build import TASK, complete, completed, failed, key_of, new_task, request_id, started

NOW = datetime(2026, 1, 1, 12, 0, 0, 250_000, tzinfo=UTC)
KEY = AttemptKey(task_id=TASK, iteration=2, phase=Phase.TRAIN, attempt=3)


class Collected:
    """A tracing whose spans a test can read."""

    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        self.tracing = Tracing("control", "test", self._exporter)

    def spans(self) -> tuple[ReadableSpan, ...]:
        self.tracing.flush()
        return self._exporter.get_finished_spans()

    def only(self) -> ReadableSpan:
        (span,) = self.spans()
        return span


@pytest_asyncio.fixture
async def collected() -> AsyncIterator[Collected]:
    fresh = Collected()
    yield fresh
    await fresh.tracing.close()


def attempt_record(key: AttemptKey = KEY, **more: Any) -> AttemptRecord:
    fields: dict[str, Any] = {
        "state": AttemptState.COMPLETED,
        "worker_id": "worker-1",
        "claim_id": None,
        "message": None,
        "event": None,
        "input_dataset_id": None,
        "fraction": None,
        "created_at": NOW,
        "due_at": NOW,
        "claimed_at": NOW + timedelta(seconds=1),
        "lease_expires_at": None,
        "ended_at": NOW + timedelta(seconds=10),
    }
    return AttemptRecord(key, **fields | more)


def change(before: Task, event: MachineEvent) -> Change:
    step = advance(before, event)
    return Change(before, step.task, event, "me", None, step.stale, step.messages, step.ended_as, {}, step.signal)


def test_the_same_attempt_has_the_same_span_in_every_process() -> None:
    assert phase_context(KEY) == phase_context(KEY.model_copy())


def test_two_attempts_are_two_spans_of_one_trace() -> None:
    one, two = phase_context(KEY), phase_context(KEY.model_copy(update={"attempt": 4}))
    assert one.trace_id == two.trace_id
    assert one.span_id != two.span_id


def test_two_iterations_are_two_traces() -> None:
    assert iteration_context(TASK, 1).trace_id != iteration_context(TASK, 2).trace_id


def test_messages_carry_the_span_of_their_attempt() -> None:
    task = started()
    assert extract(headers_for(task)) == phase_context(key_of(task))


def test_messages_of_a_task_without_an_attempt_carry_its_iteration() -> None:
    assert extract(headers_for(new_task())) == iteration_context(TASK, 1)


def test_a_phase_span_takes_its_times_from_the_database(collected: Collected) -> None:
    emit_phase(collected.tracing, attempt_record())
    span = collected.only()
    start = int(NOW.timestamp() * 1000) * 1_000_000
    assert (span.start_time, span.end_time) == (start, start + 10 * 10**9)
    assert [(event.name, event.timestamp) for event in span.events] == [("claimed", start + 10**9)]


def test_a_phase_span_has_the_derived_ids_below_its_iteration(collected: Collected) -> None:
    emit_phase(collected.tracing, attempt_record())
    span, derived = collected.only(), phase_context(KEY)
    assert span.context is not None
    assert (span.context.trace_id, span.context.span_id) == (derived.trace_id, derived.span_id)
    assert span.parent == iteration_context(TASK, 2)


def test_a_phase_span_has_the_attributes_of_its_attempt(collected: Collected) -> None:
    emit_phase(collected.tracing, attempt_record(event={"gpu_seconds": 2.5, "work_seconds": 1.5, "steps": 7}))
    assert (
        dict(collected.only().attributes or {}).items()
        >= {
            "treadle.task.id": str(TASK),
            "treadle.attempt": 3,
            "treadle.worker.id": "worker-1",
            "treadle.gpu_seconds": 2.5,
            "treadle.work_seconds": 1.5,
            "treadle.steps": 7,
        }.items()
    )


@pytest.mark.parametrize(
    ("state", "status"),
    [
        (AttemptState.COMPLETED, StatusCode.OK),
        (AttemptState.FAILED, StatusCode.ERROR),
        (AttemptState.LOST, StatusCode.ERROR),
        (AttemptState.CANCELLED, StatusCode.UNSET),
        (AttemptState.PAUSED, StatusCode.UNSET),
    ],
)
def test_only_a_span_of_a_failed_attempt_has_an_error_status(
    collected: Collected, state: AttemptState, status: StatusCode
) -> None:
    emit_phase(collected.tracing, attempt_record(state=state))
    assert collected.only().status.status_code is status


def test_the_root_span_covers_its_attempts_and_links_to_the_iteration_before(collected: Collected) -> None:
    task = replace(complete(started(), 3), iteration=2)
    emit_iteration(collected.tracing, task, [attempt_record(), attempt_record(ended_at=NOW + timedelta(seconds=99))])
    span, derived = collected.only(), iteration_context(TASK, 2)
    assert span.context is not None
    assert span.parent is None
    assert (span.context.trace_id, span.context.span_id) == (derived.trace_id, derived.span_id)
    assert (span.end_time or 0) - (span.start_time or 0) == 99 * 10**9
    assert [link.context for link in span.links] == [iteration_context(TASK, 1)]


def test_nothing_is_recorded_if_tracing_is_off() -> None:
    off, exporter = Tracing("control", "test", None), InMemorySpanExporter()
    off._provider.add_span_processor(SimpleSpanProcessor(exporter))
    emit_phase(off, attempt_record())
    assert exporter.get_finished_spans() == ()


@pytest.mark.parametrize(
    ("before", "event", "ends"),
    [
        (started(), completed(started()), False),
        (complete(started(), 2), completed(complete(started(), 2)), True),
        (started(max_failures=0), failed(started(max_failures=0)), True),
        (started(), failed(started()), False),
        (started(), CancelTask(task_id=TASK, submission_id=request_id(2)), True),
        (new_task(), CancelTask(task_id=TASK, submission_id=request_id(2)), False),
        (complete(started(), 3), CancelTask(task_id=TASK, submission_id=request_id(2)), False),
        (started(), PauseTask(task_id=TASK, submission_id=request_id(2)), False),
    ],
)
def test_an_iteration_ends_once(before: Task, event: MachineEvent, ends: bool) -> None:
    assert ends_iteration(change(before, event)) is ends
