from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind

from contracts.topology import COMMANDS
from infra.bus.inprocess import InProcessBus
from infra.bus.port import IncomingMessage, OutgoingMessage, Unroutable
from infra.bus.traced import TracedBus
from infra.telemetry import Tracing, inject, span_context

CREATION = span_context(trace_id=7, span_id=9)


class Traced:
    """A traced bus, and the spans that it exports."""

    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        self.tracing = Tracing("test", "test", self._exporter)
        self.bus = TracedBus(InProcessBus(), self.tracing)

    def spans(self) -> dict[str, ReadableSpan]:
        self.tracing.flush()
        return {span.name: span for span in self._exporter.get_finished_spans()}

    async def deliver(self, headers: dict[str, str]) -> IncomingMessage:
        """Publish a message and return it as the consumer received it."""
        handled: asyncio.Future[IncomingMessage] = asyncio.get_running_loop().create_future()

        async def handle(message: IncomingMessage) -> None:
            await message.ack()
            handled.set_result(message)

        await self.bus.consume("treadle.train", handle, prefetch=1)
        await self.bus.publish(OutgoingMessage(COMMANDS.name, "train", b"{}", "id-1", headers))
        return await asyncio.wait_for(handled, 5)


@pytest_asyncio.fixture
async def traced() -> AsyncIterator[Traced]:
    fresh = Traced()
    await fresh.bus.start()
    yield fresh
    await fresh.bus.close()
    await fresh.tracing.close()


async def test_the_context_of_a_message_arrives_as_it_was_sent(traced: Traced) -> None:
    message = await traced.deliver(inject(CREATION))
    assert message.headers["traceparent"] == inject(CREATION)["traceparent"]


@pytest.mark.parametrize(
    ("name", "kind", "operation"),
    [
        ("publish treadle.commands", SpanKind.CLIENT, ("publish", "send")),
        ("process treadle.train", SpanKind.CONSUMER, ("process", "process")),
    ],
)
async def test_a_message_leaves_spans_in_its_own_trace(
    traced: Traced, name: str, kind: SpanKind, operation: tuple[str, str]
) -> None:
    await traced.deliver(inject(CREATION))
    await traced.bus.close()
    span = traced.spans()[name]
    attributes = dict(span.attributes or {})
    assert span.context is not None
    assert (span.kind, span.context.trace_id) == (kind, CREATION.trace_id)
    assert [link.context for link in span.links] == [CREATION]
    assert (attributes["messaging.operation.name"], attributes["messaging.operation.type"]) == operation
    assert attributes["messaging.message.id"] == "id-1"


async def test_a_message_without_a_context_leaves_none(traced: Traced) -> None:
    await traced.deliver({})
    assert traced.spans() == {}


async def test_an_unroutable_message_leaves_a_span_with_the_error(traced: Traced) -> None:
    with pytest.raises(Unroutable):
        await traced.bus.publish(OutgoingMessage(COMMANDS.name, "nowhere", b"{}", "id-1", inject(CREATION)))
    (span,) = traced.spans().values()
    assert (span.attributes or {})["error.type"] == "Unroutable"


@pytest.mark.parametrize(
    ("queue", "name"),
    [("treadle.train", "publish treadle.train"), ("amq.gen-0af7651916cd43dd", "publish (temporary)")],
)
async def test_a_message_that_goes_directly_to_a_queue_names_it_only_if_it_is_shared(
    traced: Traced, queue: str, name: str
) -> None:
    await traced.bus.publish(OutgoingMessage("", queue, b"{}", "id-1", inject(CREATION), mandatory=False))
    assert list(traced.spans()) == [name]
