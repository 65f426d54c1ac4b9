"""A bus that creates spans by OpenTelemetry's conventions for messaging (semantic conventions 1.37, RabbitMQ).

Only a message that carries a trace context, such as a command or an event, gets a span. Names of spans are the same for
all tasks and workers: they name exchanges and shared queues, while ids are attributes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, contextmanager

from opentelemetry.trace import Link, Span, SpanContext, SpanKind, Status, StatusCode
from opentelemetry.util.types import AttributeValue

from contracts.topology import QUEUES_BY_NAME
from infra.bus.poison import Poison
from infra.bus.port import Bus, Handler, IncomingMessage, OutgoingMessage, PublishFailed, Subscription
from infra.logs import bound
from infra.telemetry import Tracing, as_context, extract


class TracedBus:
    """Delegates to `bus`; the trace context in a message's headers is its creation context and is never changed."""

    def __init__(self, bus: Bus, tracing: Tracing) -> None:
        self._bus = bus
        self._tracing = tracing

    @property
    def name(self) -> str:
        """The name of the wrapped adapter."""
        return self._bus.name

    @property
    def poison(self) -> Poison:
        """The poison of the wrapped adapter."""
        return self._bus.poison

    async def start(self) -> None:
        """Start the wrapped bus."""
        await self._bus.start()

    async def close(self) -> None:
        """Close the wrapped bus."""
        await self._bus.close()

    async def publish(self, message: OutgoingMessage) -> None:
        """Publish under a `publish` span."""
        (outcome,) = await self.publish_all([message])
        if outcome is not None:
            raise outcome

    async def publish_all(self, messages: Sequence[OutgoingMessage]) -> list[PublishFailed | None]:
        """Publish each message under a `publish` span, which ends when all confirms have arrived."""
        spans = [self._publish_span(message) for message in messages]
        outcomes = await self._bus.publish_all(messages)
        for span, outcome in zip(spans, outcomes, strict=True):
            if span is not None:
                _end_span(span, outcome)
        return outcomes

    async def consume(self, queue: str, handler: Handler, *, prefetch: int) -> Subscription:
        """Consume, and handle each message under a `process` span."""

        async def traced(message: IncomingMessage) -> None:
            with processing(self._tracing, self._bus.name, queue, message):
                await handler(message)

        return await self._bus.consume(queue, traced, prefetch=prefetch)

    async def listen(self, exchange: str, binding: str, handler: Handler) -> Subscription:
        """Listen without spans."""
        return await self._bus.listen(exchange, binding, handler)

    async def request(self, message: OutgoingMessage, *, timeout: float) -> bytes:
        """Send a request without spans."""
        return await self._bus.request(message, timeout=timeout)

    async def depth(self, queue: str) -> int:
        """The number of messages ready in a shared queue."""
        return await self._bus.depth(queue)

    async def consumers(self, queue: str) -> int:
        """The number of consumers of a shared queue."""
        return await self._bus.consumers(queue)

    async def missing(self) -> Mapping[str, str]:
        """What the wrapped adapter reports."""
        return await self._bus.missing()

    async def replace_outdated(self) -> set[str]:
        """Replace them in the wrapped adapter."""
        return await self._bus.replace_outdated()

    def browse(self, queue: str, limit: int) -> AbstractAsyncContextManager[list[IncomingMessage]]:
        """Browse without spans."""
        return self._bus.browse(queue, limit)

    def _publish_span(self, message: OutgoingMessage) -> Span | None:
        creation_context = extract(message.headers)
        if creation_context is None:
            return None
        destination = f"{message.exchange}:{message.routing_key}" if message.exchange else message.routing_key
        attributes = _attributes(self._bus.name, "publish", "send", destination, message)
        name = f"publish {_target(message)}"
        return _start_span(self._tracing, name, SpanKind.CLIENT, creation_context, attributes)


@contextmanager
def processing(tracing: Tracing, system: str, queue: str, message: IncomingMessage) -> Iterator[None]:
    """Run the block under a `process` span if the message carries a trace context."""
    creation_context = extract(message.headers)
    if creation_context is None:
        yield
        return
    attributes = _attributes(system, "process", "process", queue, message)
    span = _start_span(tracing, f"process {queue}", SpanKind.CONSUMER, creation_context, attributes)
    try:
        with bound(trace_id=f"{creation_context.trace_id:032x}"):
            yield
    except BaseException as error:
        _end_span(span, error)
        raise
    _end_span(span, None)


def _start_span(
    tracing: Tracing, name: str, kind: SpanKind, creation_context: SpanContext, attributes: Mapping[str, AttributeValue]
) -> Span:
    """Start a span in the trace of the message, linked to the creation context as the conventions require."""
    return tracing.tracer(__name__).start_span(
        name, context=as_context(creation_context), kind=kind, attributes=attributes, links=[Link(creation_context)]
    )


def _target(message: OutgoingMessage) -> str:
    """Where a message goes, for the name of a span: its exchange, its shared queue, or `(temporary)`."""
    if message.exchange:
        return message.exchange
    return message.routing_key if message.routing_key in QUEUES_BY_NAME else "(temporary)"


def _attributes(
    system: str, name: str, kind: str, destination: str, message: OutgoingMessage | IncomingMessage
) -> dict[str, AttributeValue]:
    return {
        "messaging.system": system,
        "messaging.operation.name": name,
        "messaging.operation.type": kind,
        "messaging.destination.name": destination,
        "messaging.rabbitmq.destination.routing_key": message.routing_key,
        "messaging.message.id": message.message_id or "",
    }


def _end_span(span: Span, error: BaseException | None) -> None:
    if error is not None:
        span.set_attribute("error.type", type(error).__name__)
        span.set_status(Status(StatusCode.ERROR, str(error)))
    span.end()
