"""The spans of a whole run with all services and faults, as a collector would receive them."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from functools import cache
from unittest.mock import patch
from uuid import UUID

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from contracts.topology import COMMANDS, PROGRESS
from control.telemetry.spans import iteration_context
from infra.bus.port import OutgoingMessage
from infra.telemetry import Tracing
from tests.simulation.bus import SimulatedBus
from tests.simulation.run import simulate

MAX_NAMES = 20
"""Names of spans: an iteration, three phases, and the exchanges and shared queues to publish to and to process."""
MIN_PROGRESS = 100
MAX_ITERATIONS = 50
STEPS = 1500


@cache
def traced_run() -> tuple[Sequence[ReadableSpan], Sequence[OutgoingMessage]]:
    """The spans and the published messages of a run."""
    exporter, tracing = InMemorySpanExporter(), Tracing("simulation", "simulation", None)
    tracing._provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracing.on = True
    route, published = SimulatedBus._route, list[OutgoingMessage]()

    def recorded(bus: SimulatedBus, message: OutgoingMessage) -> None:
        published.append(message)
        route(bus, message)

    with patch("tests.simulation.services.TRACING", tracing), patch.object(SimulatedBus, "_route", recorded):
        simulate(4, STEPS)
    return exporter.get_finished_spans(), published


def test_the_names_of_all_spans_are_few_and_have_no_ids() -> None:
    names = {span.name for span in traced_run()[0]}
    assert {name for name in names if re.search(r"\d|[0-9a-f]{8}", name)} == set()
    assert {"iteration", "phase train", "publish treadle.commands", "process treadle.train"} <= names
    assert len(names) <= MAX_NAMES


def test_progress_carries_no_trace_context_and_leaves_no_span() -> None:
    spans, published = traced_run()
    headers = [dict(message.headers) for message in published if message.exchange == PROGRESS.name]
    assert len(headers) > MIN_PROGRESS
    assert all(each == {} for each in headers)
    values = {str(value) for span in spans for value in (span.name, *(span.attributes or {}).values())}
    assert [value for value in values if PROGRESS.name in value] == []


def test_an_iteration_is_one_trace_and_every_span_is_in_the_trace_of_an_iteration() -> None:
    spans, published = traced_run()
    traces = dict[object, set[int]]()
    for span in spans:
        attributes = span.attributes or {}
        if "treadle.iteration" in attributes:
            iteration = (attributes["treadle.task.id"], attributes["treadle.iteration"])
            traces.setdefault(iteration, set()).add(_trace_id(span))
    assert traces
    assert {len(ids) for ids in traces.values()} == {1}
    commands = [json.loads(message.body) for message in published if message.exchange == COMMANDS.name]
    tasks = {UUID(command["key"]["task_id"]) for command in commands}  # also those of which no span has ended yet
    derived = {iteration_context(task, number).trace_id for task in tasks for number in range(1, MAX_ITERATIONS)}
    assert {span.name for span in spans if _trace_id(span) not in derived} == set()


def _trace_id(span: ReadableSpan) -> int:
    assert span.context is not None
    return span.context.trace_id
