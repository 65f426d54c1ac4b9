"""Tracing with OpenTelemetry: the provider, W3C trace context in headers, and spans with derived ids."""

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
"""Seconds for one export, which runs in its own thread; spans that the collector does not accept are dropped."""

_PROPAGATOR = TraceContextTextMapPropagator()
_next_identity: ContextVar[SpanContext | None] = ContextVar("next_identity", default=None)


class DerivedIds(RandomIdGenerator):
    """Random ids, except for spans with a derived identity, which have the same ids in every process."""

    def generate_trace_id(self) -> int:
        """The derived trace id of the span that begins, or a random one."""
        identity = _next_identity.get()
        return identity.trace_id if identity else super().generate_trace_id()

    def generate_span_id(self) -> int:
        """The derived span id of the span that begins, or a random one."""
        identity = _next_identity.get()
        return identity.span_id if identity else super().generate_span_id()


class Tracing:
    """The tracer provider of this process. Without an exporter nothing is recorded."""

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
        """A provider that exports over OTLP/HTTP if `otlp_endpoint` is set."""
        if settings.otlp_endpoint is None:
            return cls(service, instance, None)
        endpoint = f"{settings.otlp_endpoint.rstrip('/')}/v1/traces"
        return cls(service, instance, OTLPSpanExporter(endpoint=endpoint, timeout=EXPORT_TIMEOUT))

    def tracer(self, name: str) -> Tracer:
        """A tracer for the module `name`; it records nothing if tracing is off."""
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
        """A span with the ids of `identity` that began at `start` (ns since the epoch); the caller ends it."""
        token = _next_identity.set(identity)
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
            _next_identity.reset(token)

    def flush(self) -> None:
        """Export the spans that have ended; blocks this thread."""
        self._provider.force_flush()

    async def close(self) -> None:
        """Export the remaining spans, for a few seconds at most, and shut down."""
        await asyncio.to_thread(self._provider.shutdown)


def span_context(trace_id: int, span_id: int) -> SpanContext:
    """A sampled remote context with these ids (128 and 64 bits)."""
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
    """The span in W3C headers; None if there is none or it is malformed."""
    span = trace.get_current_span(_PROPAGATOR.extract(headers, Context())).get_span_context()
    return span if span.is_valid else None
