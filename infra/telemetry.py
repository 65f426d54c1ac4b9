"""Traces: a provider made at the composition root, W3C context in headers, spans whose ids are derived."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextvars import ContextVar

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.trace import Link, NonRecordingSpan, Span, SpanContext, SpanKind, TraceFlags, Tracer
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from opentelemetry.util.types import AttributeValue

from infra.settings import Settings

EXPORT_TIMEOUT = 3
"""Seconds that one export may take, in its own thread; what the collector does not take is dropped."""

_PROPAGATOR = TraceContextTextMapPropagator()
_wanted: ContextVar[SpanContext | None] = ContextVar("wanted", default=None)


class DerivedIds(RandomIdGenerator):
    """Random ids, except for a span whose identity was derived: any process gives that one the same ids."""

    def generate_trace_id(self) -> int:
        """The wanted trace id, else a random one."""
        wanted = _wanted.get()
        return wanted.trace_id if wanted else super().generate_trace_id()

    def generate_span_id(self) -> int:
        """The wanted span id, else a random one."""
        wanted = _wanted.get()
        return wanted.span_id if wanted else super().generate_span_id()


class Tracing:
    """This process's tracer provider. Without an exporter nothing is recorded and everything is cheap."""

    def __init__(self, service: str, instance: str, exporter: SpanExporter | None) -> None:
        resource = Resource.create(
            {"service.namespace": "treadle", "service.name": service, "service.instance.id": instance}
        )
        self.on = exporter is not None
        self._provider = TracerProvider(resource=resource, id_generator=DerivedIds(), shutdown_on_exit=False)
        if exporter is not None:
            self._provider.add_span_processor(BatchSpanProcessor(exporter))

    @classmethod
    def connect(cls, settings: Settings, service: str, instance: str) -> Tracing:
        """Export over OTLP/HTTP where `otlp_endpoint` is set."""
        if settings.otlp_endpoint is None:
            return cls(service, instance, None)
        endpoint = f"{settings.otlp_endpoint.rstrip('/')}/v1/traces"
        return cls(service, instance, OTLPSpanExporter(endpoint=endpoint, timeout=EXPORT_TIMEOUT))

    def tracer(self, name: str) -> Tracer:
        """A tracer for the module `name`; one that records nothing where tracing is off."""
        return self._provider.get_tracer(name) if self.on else trace.NoOpTracer()

    def begin(
        self,
        name: str,
        identity: SpanContext,
        *,
        parent: SpanContext | None,
        start: int,
        attributes: Mapping[str, AttributeValue],
        links: Sequence[SpanContext] = (),
    ) -> Span:
        """A span of a known identity that began at `start` (ns since the epoch); the caller ends it."""
        token = _wanted.set(identity)
        try:
            return self.tracer(__name__).start_span(
                name,
                context=as_context(parent) if parent else Context(),
                kind=SpanKind.INTERNAL,
                attributes=attributes,
                links=[Link(link) for link in links],
                start_time=start,
            )
        finally:
            _wanted.reset(token)

    def flush(self) -> None:
        """Export what has ended, now, in this thread."""
        self._provider.force_flush()

    async def close(self) -> None:
        """Export what is left, for at most a few seconds."""
        await asyncio.to_thread(self._provider.shutdown)


def span_context(trace_id: int, span_id: int) -> SpanContext:
    """A sampled context of these ids (128 and 64 bits), as it arrives from another process."""
    return SpanContext(trace_id, span_id, is_remote=True, trace_flags=TraceFlags(TraceFlags.SAMPLED))


def as_context(span: SpanContext) -> Context:
    """A context in which `span` is the current span."""
    return trace.set_span_in_context(NonRecordingSpan(span), Context())


def inject(span: SpanContext) -> dict[str, str]:
    """The W3C headers (`traceparent`, `tracestate`) that carry `span`."""
    headers: dict[str, str] = {}
    _PROPAGATOR.inject(headers, as_context(span))
    return headers


def extract(headers: Mapping[str, str]) -> SpanContext | None:
    """The span that W3C headers carry; None where they carry none, or a malformed one."""
    found = trace.get_current_span(_PROPAGATOR.extract(headers, Context())).get_span_context()
    return found if found.is_valid else None
