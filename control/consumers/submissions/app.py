"""The FastStream application that takes submissions."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from faststream import AckPolicy, FastStream, StreamMessage
from faststream.rabbit import Channel, ExchangeType, QueueType, RabbitBroker, RabbitExchange, RabbitQueue
from faststream.specification import AsyncAPI
from yarl import URL

from contracts.submissions import AnySubmission, SubmissionAccepted, SubmissionRefused
from contracts.topology import SUBMISSIONS_QUEUE, TASKS
from control.apply.submissions import Submissions
from control.consumers.submissions.handlers import SubmissionHandler, decode_submission
from control.consumers.submissions.settling import Settlement, SettlingMiddleware
from infra.bus.port import Bus, BusUnavailable
from infra.bus.rabbitmq.bus import HEARTBEAT, RECONNECT_AFTER
from infra.bus.rabbitmq.calls import AWAY, calling
from infra.bus.rabbitmq.consumer import has_consumer
from infra.bus.rabbitmq.topology import arguments
from infra.telemetry import Tracing

if TYPE_CHECKING:
    from faststream.rabbit.schemas.queue import QuorumQueueArgs

PREFETCH = 256
STOP_TIMEOUT = 5.0
"""Seconds that submissions under way have to end."""

QUEUE = RabbitQueue(
    SUBMISSIONS_QUEUE.name,
    QueueType.QUORUM,
    arguments=cast("QuorumQueueArgs", arguments(SUBMISSIONS_QUEUE)),
    routing_key=SUBMISSIONS_QUEUE.binding,
)
EXCHANGE = RabbitExchange(TASKS.name, type=ExchangeType(TASKS.kind.value), durable=True)


class PublicSide:
    """Consumes `treadle.submissions` on a connection of its own. Answers are published by the bus.

    FastStream would publish them on the connection that consumes, which the broker blocks whole, acknowledgements
    included, while it is short of memory or disk.
    """

    def __init__(self, url: str, bus: Bus, submissions: Submissions, tracing: Tracing) -> None:
        settlement = Settlement(bus, tracing)
        self._broker = public_broker(submissions, url=url, middlewares=(partial(SettlingMiddleware, settlement),))
        self._started = False

    async def start(self) -> None:
        """Connect and consume. Raises BusUnavailable."""
        try:
            async with calling():
                await self._broker.start()
        except AWAY as error:
            raise BusUnavailable(f"submissions cannot be consumed: {error or type(error).__name__}") from error
        self._started = True

    async def stop(self) -> None:
        """Take no more submissions; those under way have STOP_TIMEOUT to end."""
        self._started = False
        with suppress(*AWAY):
            async with calling(2 * STOP_TIMEOUT):
                await self._broker.stop()

    async def attached(self) -> bool:
        """Whether the broker has this consumer: its channel is open, and the consumer was not cancelled."""
        if not self._started:
            return False
        queue = await self._broker.declare_queue(QUEUE)  # the subscriber's own object: FastStream keeps it
        return await has_consumer(queue.channel)


def public_broker(submissions: Submissions, *, url: str, middlewares: Sequence[Any] = ()) -> RabbitBroker:
    """A broker, not connected yet, with the subscriber and the answers of the public side."""
    broker = RabbitBroker(
        URL(url).update_query(heartbeat=HEARTBEAT, name="treadle submissions"),
        reconnect_interval=RECONNECT_AFTER,
        graceful_timeout=STOP_TIMEOUT,
        middlewares=middlewares,
        logger=logging.getLogger(__name__),
        log_level=logging.DEBUG,
    )
    subscriber = broker.subscriber(
        QUEUE,
        EXCHANGE,
        channel=Channel(prefetch_count=PREFETCH),
        ack_policy=AckPolicy.MANUAL,
        no_reply=True,  # FastStream's own reply would follow `reply_to` to any queue and any exchange
        decoder=_decode,
        title=QUEUE.name,
        description=TASKS.carries,
    )
    subscriber(SubmissionHandler(submissions).submit)
    broker.publisher("reply_to", schema=SubmissionAccepted | SubmissionRefused, title="answer", mandatory=False)
    return broker


def asyncapi_document(submissions: Submissions, version: str) -> dict[str, Any]:
    """The AsyncAPI 3 document of the public side, made from its handlers, as JSON-ready data."""
    broker = public_broker(submissions, url="amqp://localhost")
    app = FastStream(broker, specification=AsyncAPI(title="Treadle", version=version, description=DESCRIPTION))
    document: dict[str, Any] = app.schema.to_specification().to_jsonable()
    return document


DESCRIPTION = (
    "Requests to Treadle over RabbitMQ: publish one to the exchange `treadle.tasks`, with its kind as the routing key. "
    "If it has a `reply_to`, the answer is sent there through the default exchange. Bodies are JSON; `kind` and "
    "`version` say what one is."
)


async def _decode(message: StreamMessage[Any]) -> AnySubmission:  # FastStream calls a plain function in a thread
    return decode_submission(message.body)
