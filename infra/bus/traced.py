"""A bus whose messages leave spans, by OpenTelemetry's conventions for messaging (semantic conventions 1.37, RabbitMQ).

Only messages that carry a trace context do: commands and events; claims, heartbeats and progress stay dark.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, contextmanager

from opentelemetry.trace import Link, Span, SpanContext, SpanKind, Status, StatusCode
from opentelemetry.util.types import AttributeValue

from infra.bus.port import Bus, Handler, Incoming, Outgoing, PublishFailed, Subscription
from infra.logs import bound
from infra.telemetry import Tracing, as_context, extract


class TracedBus:
    """Passes everything on to `bus`. The context in a message's headers is its creation, and is never changed."""

    def __init__(self, bus: Bus, tracing: Tracing) -> None:
        self._bus = bus
        self._tracing = tracing

    @property
    def name(self) -> str:
        """Which adapter is behind it."""
        return self._bus.name

    async def start(self) -> None:
        """Start the bus behind it."""
        await self._bus.start()

    async def close(self) -> None:
        """Close the bus behind it."""
        await self._bus.close()

    async def publish(self, message: Outgoing) -> None:
        """Publish under a `publish` span."""
        (answer,) = await self.publish_all([message])
        if answer is not None:
            raise answer

    async def publish_all(self, messages: Sequence[Outgoing]) -> list[PublishFailed | None]:
        """Publish under a `publish` span a message, each from hand-over to confirm."""
        spans = [self._sending(message) for message in messages]
        answers = await self._bus.publish_all(messages)
        for span, answer in zip(spans, answers, strict=True):
            if span is not None:
                _end(span, answer)
        return answers

    async def consume(self, queue: str, handler: Handler, *, prefetch: int) -> Subscription:
        """Consume, each message handled under a `process` span."""

        async def traced(message: Incoming) -> None:
            with processing(self._tracing, self._bus.name, queue, message):
                await handler(message)

        return await self._bus.consume(queue, traced, prefetch=prefetch)

    async def listen(self, exchange: str, binding: str, handler: Handler) -> Subscription:
        """Listen; broadcasts leave no spans."""
        return await self._bus.listen(exchange, binding, handler)

    async def request(self, message: Outgoing, *, timeout: float) -> bytes:
        """Request; claims and heartbeats leave no spans."""
        return await self._bus.request(message, timeout=timeout)

    async def depth(self, queue: str) -> int:
        """Messages ready in a shared queue."""
        return await self._bus.depth(queue)

    def browse(self, queue: str, limit: int) -> AbstractAsyncContextManager[list[Incoming]]:
        """Browse; looking leaves no spans."""
        return self._bus.browse(queue, limit)

    def _sending(self, message: Outgoing) -> Span | None:
        creation = extract(message.headers)
        if creation is None:
            return None
        destination = f"{message.exchange}:{message.routing_key}" if message.exchange else message.routing_key
        attributes = _attributes(self._bus.name, "publish", "send", destination, message)
        return _start(self._tracing, f"publish {destination}", SpanKind.CLIENT, creation, attributes)


@contextmanager
def processing(tracing: Tracing, system: str, queue: str, message: Incoming) -> Iterator[None]:
    """Handle a message in the block, under a `process` span if the message carries a trace context."""
    creation = extract(message.headers)
    if creation is None:
        yield
        return
    attributes = _attributes(system, "process", "process", queue, message)
    span = _start(tracing, f"process {queue}", SpanKind.CONSUMER, creation, attributes)
    try:
        with bound(trace_id=f"{creation.trace_id:032x}"):
            yield
    except BaseException as error:
        _end(span, error)
        raise
    _end(span, None)


def _start(
    tracing: Tracing, name: str, kind: SpanKind, creation: SpanContext, attributes: Mapping[str, AttributeValue]
) -> Span:
    """A span in the message's own trace, linked to its creation as the conventions ask."""
    return tracing.tracer(__name__).start_span(
        name, context=as_context(creation), kind=kind, attributes=attributes, links=[Link(creation)]
    )


def _attributes(
    system: str, name: str, kind: str, destination: str, message: Outgoing | Incoming
) -> dict[str, AttributeValue]:
    return {
        "messaging.system": system,
        "messaging.operation.name": name,
        "messaging.operation.type": kind,
        "messaging.destination.name": destination,
        "messaging.rabbitmq.destination.routing_key": message.routing_key,
        "messaging.message.id": message.message_id or "",
    }


def _end(span: Span, error: BaseException | None) -> None:
    if error is not None:
        span.set_attribute("error.type", type(error).__name__)
        span.set_status(Status(StatusCode.ERROR, str(error)))
    span.end()
