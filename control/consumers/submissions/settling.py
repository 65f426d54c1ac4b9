"""Every submission is answered if it asks for an answer, and every delivery is settled exactly once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import structlog
from faststream import BaseMiddleware, StreamMessage

from contracts.submissions import SubmissionAccepted, SubmissionRefused
from contracts.topology import QUEUES, SUBMISSIONS_QUEUE
from contracts.wire import encode
from control.consumers.retry import patiently
from control.consumers.submissions.handlers import answer_of
from infra.bus.dead_letter import dead_letter
from infra.bus.port import Bus, Incoming, Outgoing, PublishFailed
from infra.bus.rabbitmq.calls import AWAY
from infra.bus.rabbitmq.messages import plain_headers
from infra.bus.traced import processing
from infra.telemetry import Tracing

OWN_QUEUES = frozenset(queue.name for queue in QUEUES)
PAUSE = 1.0
"""Seconds before a delivery that could not be settled is given back."""

log = structlog.get_logger(__name__)


class Settlement:
    """Answers a submission and settles its delivery."""

    def __init__(self, bus: Bus, tracing: Tracing) -> None:
        self._bus = bus
        self._tracing = tracing

    async def settle(self, message: Incoming, submit: Callable[[], Awaitable[SubmissionAccepted]]) -> None:
        """Submit, reply and acknowledge. A refusal that no reply can carry becomes a dead letter."""
        with processing(self._tracing, self._bus.name, SUBMISSIONS_QUEUE.name, message):
            await self._settle(message, await answer_of(message.body, submit))

    async def _settle(self, message: Incoming, answer: SubmissionAccepted | SubmissionRefused) -> None:
        if await self._replied(message, answer) or isinstance(answer, SubmissionAccepted):
            await message.ack()
        else:
            reason = answer.problem.detail
            await patiently(partial(dead_letter, self._bus, message, SUBMISSIONS_QUEUE.name, reason))

    async def _replied(self, message: Incoming, answer: SubmissionAccepted | SubmissionRefused) -> bool:
        """Whether the broker took an answer. One to a queue of Treadle's own would reach a service as an order."""
        if message.reply_to is None or message.reply_to in OWN_QUEUES:
            return False
        try:
            await self._bus.publish(
                Outgoing(
                    exchange="",
                    routing_key=message.reply_to,
                    body=encode(answer),
                    message_id=str(answer.message_id),
                    correlation_id=message.correlation_id,
                    mandatory=False,
                )
            )
        except PublishFailed as error:
            log.warning("reply_not_sent", reply_to=message.reply_to, error=str(error))
            return False
        return True


class SettlingMiddleware(BaseMiddleware[Any, Any]):
    """Settles each delivery of a FastStream subscriber with `ack_policy=MANUAL`.

    Under MANUAL, FastStream itself settles nothing, not even a body that fails validation.
    """

    def __init__(self, settlement: Settlement, msg: Any, /, *, context: Any) -> None:  # noqa: ANN401 - FastStream's own
        super().__init__(msg, context=context)
        self._settlement = settlement

    async def consume_scope(self, call_next: Callable[[Any], Awaitable[Any]], msg: StreamMessage[Any]) -> None:
        """Settle the delivery by what its handler answers or raises, decoding included."""
        await self._settlement.settle(incoming(msg), partial(call_next, msg))

    async def after_processed(self, exc_type: Any = None, exc_val: Any = None, exc_tb: Any = None) -> bool:  # noqa: ANN401
        """Give a delivery back if an unforeseen error kept it from being settled; the delivery limit ends that.

        A cancellation means that the channel is closed and the delivery comes again: for FastStream it is an error.
        """
        if isinstance(exc_val, Exception) and not self.msg.processed:
            await asyncio.sleep(PAUSE)
            await _send(partial(self.msg.reject, requeue=True))
        return isinstance(exc_val, asyncio.CancelledError)


def incoming(message: StreamMessage[Any]) -> Incoming:
    """FastStream's message in the shape of the bus's port."""
    raw = message.raw_message
    return Incoming(
        body=raw.body,
        message_id=raw.message_id,
        routing_key=raw.routing_key or "",
        headers=plain_headers(raw.headers),
        correlation_id=raw.correlation_id,
        reply_to=raw.reply_to,
        redelivered=bool(raw.redelivered),
        ack=partial(_send, message.ack),
        requeue=partial(_send, message.nack),
        published_at=raw.timestamp,
    )


async def _send(settle: Callable[[], Awaitable[None]]) -> None:
    """Settle a delivery; if its channel is closed, the broker has already taken it back."""
    try:
        await settle()
    except AWAY as error:
        log.info("delivery_lost_before_settling", error=str(error))
