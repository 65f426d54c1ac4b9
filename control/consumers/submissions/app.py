"""Builds the FastStream application that consumes submissions."""

from __future__ import annotations

import asyncio
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
from control.consumers.submissions.accounts import require_account, sent_by
from control.consumers.submissions.handlers import SubmissionHandler, decode_submission
from control.consumers.submissions.settling import PREFETCH, SettlingMiddleware, SubmissionSettler
from infra.asyncio_tasks import cancel_and_wait, log_failure
from infra.bus.port import Bus, BusUnavailable
from infra.bus.rabbitmq.bus import CHECK_INTERVAL, HEARTBEAT, RECONNECT_AFTER
from infra.bus.rabbitmq.calls import BROKER_ERRORS, call_timeout
from infra.bus.rabbitmq.consumer import has_consumer, reopen
from infra.bus.rabbitmq.declarations import arguments
from infra.telemetry import Tracing

if TYPE_CHECKING:
    from faststream.rabbit.schemas.queue import QuorumQueueArgs

STOP_TIMEOUT = 5.0
"""Seconds for submissions in progress to finish when the consumer stops."""
ATTACHED_TIMEOUT = 2.0
"""Seconds for the broker to say how many consumers the queue has."""

QUEUE = RabbitQueue(
    SUBMISSIONS_QUEUE.name,
    QueueType.QUORUM,
    arguments=cast("QuorumQueueArgs", arguments(SUBMISSIONS_QUEUE)),
    routing_key=SUBMISSIONS_QUEUE.binding,
)
EXCHANGE = RabbitExchange(TASKS.name, type=ExchangeType(TASKS.kind.value), durable=True)


class SubmissionConsumer:
    """Consumes `treadle.submissions` on its own connection; the bus publishes the replies.

    FastStream would publish replies on the consuming connection. A broker short of memory or disk blocks a publishing
    connection completely, including its acknowledgements.
    """

    def __init__(
        self, url: str, bus: Bus, submissions: Submissions, tracing: Tracing, *, accounts: bool = False
    ) -> None:
        self._bus = bus
        settler = SubmissionSettler(bus, tracing)
        middlewares = (partial(SettlingMiddleware, settler),)
        self._broker = submissions_broker(submissions, url=url, middlewares=middlewares, accounts=accounts)
        self._started = False
        self._watching: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Connect and consume. Raises BusUnavailable if the broker cannot be reached or refuses."""
        try:
            async with call_timeout():
                await self._broker.start()
        except BROKER_ERRORS as error:
            raise BusUnavailable(
                f"cannot consume {QUEUE.name}: {error or type(error).__name__}; check the broker with `treadle doctor`"
            ) from error
        self._started = True
        self._watching = asyncio.create_task(self._watch(), name="consumer of submissions")
        log_failure(self._watching)

    async def stop(self) -> None:
        """Stop consuming; submissions in progress have STOP_TIMEOUT seconds to finish."""
        self._started = False
        if self._watching is not None:
            await cancel_and_wait(self._watching)
        with suppress(*BROKER_ERRORS):
            async with call_timeout(2 * STOP_TIMEOUT):
                await self._broker.stop()

    async def attached(self) -> bool:
        """Whether the broker has this consumer: its channel is open, and the consumer was not cancelled."""
        if not self._started:
            return False
        queue = await self._queue()
        try:
            async with call_timeout(ATTACHED_TIMEOUT):
                return await has_consumer(queue.channel) and await self._bus.consumers(QUEUE.name) > 0
        except (*BROKER_ERRORS, BusUnavailable):
            return False

    async def _watch(self) -> None:
        """Open the channel again if the consumer is not attached, because the broker may have forgotten it."""
        while True:
            await asyncio.sleep(CHECK_INTERVAL)
            if not await self.attached():
                await reopen((await self._queue()).channel)

    async def _queue(self) -> Any:  # noqa: ANN401 - aio-pika's queue, which control does not import
        return await self._broker.declare_queue(QUEUE)  # FastStream returns the queue of its subscriber


def submissions_broker(
    submissions: Submissions, *, url: str, middlewares: Sequence[Any] = (), accounts: bool = False
) -> RabbitBroker:
    """An unconnected broker with the subscriber of submissions and the publisher of their answers.

    With `accounts`, the actor of a submission is the account that published it, which the message must name.
    """
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
        no_reply=True,  # FastStream would reply to any exchange and queue that `reply_to` names
        decoder=_decode_with_account if accounts else _decode,
        title=QUEUE.name,
        description=TASKS.carries,
    )
    subscriber(SubmissionHandler(submissions).submit)
    broker.publisher("reply_to", schema=SubmissionAccepted | SubmissionRefused, title="answer", mandatory=False)
    return broker


def asyncapi_document(submissions: Submissions, version: str) -> dict[str, Any]:
    """The AsyncAPI 3 document of the submissions, generated from their handler, as JSON-serializable data."""
    broker = submissions_broker(submissions, url="amqp://localhost")
    app = FastStream(broker, specification=AsyncAPI(title="Treadle", version=version, description=DESCRIPTION))
    document: dict[str, Any] = app.schema.to_specification().to_jsonable()
    return document


DESCRIPTION = (
    "Requests to Treadle over RabbitMQ. Publish a request to the exchange `treadle.tasks`, with its kind as the "
    "routing key. If the request has a `reply_to`, the answer is sent to that queue through the default exchange. "
    "Bodies are JSON; the fields `kind` and `version` identify the type of a message. If accounts are used, the "
    "property `user_id` must be the name of your account, and `reply_to` must be `amq.rabbitmq.reply-to`."
)


async def _decode(message: StreamMessage[Any]) -> AnySubmission:  # async: FastStream calls a plain function in a thread
    return decode_submission(message.body)


async def _decode_with_account(message: StreamMessage[Any]) -> AnySubmission:
    account = require_account(message.raw_message.user_id)
    return sent_by(account, decode_submission(message.body))
