"""The spans of a whole run with all services and faults, as a collector would receive them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from unittest.mock import patch

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from contracts.topology import PROGRESS
from infra.telemetry import Tracing
from tests.simulation.run import simulate

MAX_NAMES = 20
"""Names of spans: an iteration, three phases, and the exchanges and shared queues to publish to and to process."""
STEPS = 2500


@cache
def spans() -> Sequence[ReadableSpan]:
    exporter, tracing = InMemorySpanExporter(), Tracing("simulation", "simulation", None)
    tracing._provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracing.on = True
    with patch("tests.simulation.services.TRACING", tracing):
        assert simulate(4, STEPS).steps["progress"] > 0, "the run must have progress, or nothing is tested"
    return exporter.get_finished_spans()


def test_the_names_of_all_spans_are_few_and_have_no_ids() -> None:
    names = {span.name for span in spans()}
    assert {name for name in names if re.search(r"\d|[0-9a-f]{8}", name)} == set()
    assert {"iteration", "phase train", "publish treadle.commands", "process treadle.train"} <= names
    assert len(names) <= MAX_NAMES


def test_progress_leaves_no_span() -> None:
    values = {str(value) for span in spans() for value in (span.name, *(span.attributes or {}).values())}
    assert [value for value in values if PROGRESS.name in value] == []


def test_an_iteration_is_one_trace() -> None:
    traces = dict[object, set[int]]()
    for span in spans():
        attributes = span.attributes or {}
        if "treadle.iteration" in attributes and span.context is not None:
            iteration = (attributes["treadle.task.id"], attributes["treadle.iteration"])
            traces.setdefault(iteration, set()).add(span.context.trace_id)
    assert traces
    assert {len(ids) for ids in traces.values()} == {1}
    known = {next(iter(ids)) for ids in traces.values()}
    stray = [span.name for span in spans() if span.context is not None and span.context.trace_id not in known]
    assert len(stray) < len(spans()) / 2
