"""Replies to submissions, and acknowledges, dead-letters or requeues each delivery exactly once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import structlog
from faststream import BaseMiddleware, StreamMessage

from contracts.submissions import SubmissionAccepted, SubmissionRefused
from contracts.topology import QUEUES_BY_NAME, SUBMISSIONS_QUEUE
from contracts.wire import encode
from control.consumers.submissions.handlers import REFUSAL_ERRORS, refusal_of
from infra.bus.dead_letter import cause_of, dead_letter, reason_of
from infra.bus.handling import Retries
from infra.bus.port import Bus, IncomingMessage, OutgoingMessage, PublishFailed
from infra.bus.rabbitmq.calls import BROKER_ERRORS
from infra.bus.rabbitmq.messages import plain_headers
from infra.bus.traced import processing
from infra.telemetry import Tracing

PREFETCH = 256
REQUEUE_DELAY = 1.0
"""Seconds before a delivery that could not be acknowledged is requeued."""

log = structlog.get_logger(__name__)


class SubmissionSettler:
    """Replies to a submission and acknowledges its delivery."""

    def __init__(self, bus: Bus, tracing: Tracing) -> None:
        self._bus = bus
        self._tracing = tracing
        self._retries = Retries(bus.poison, SUBMISSIONS_QUEUE.name, PREFETCH)

    async def settle(self, message: IncomingMessage, submit: Callable[[], Awaitable[SubmissionAccepted]]) -> None:
        """Submit, reply and acknowledge.

        A refusal whose reply cannot be sent becomes a dead letter, and so does every submission that failed for an
        unforeseen reason.
        """
        with processing(self._tracing, self._bus.name, SUBMISSIONS_QUEUE.name, message):
            try:
                answer = await self._retries.run(submit, message.message_id)
            except Exception as error:  # noqa: BLE001  # the sender must get an answer for any error
                await self._refuse(message, error)
            else:
                await self._send_reply(message, answer)
                await message.ack()

    async def _refuse(self, message: IncomingMessage, error: Exception) -> None:
        replied = await self._send_reply(message, refusal_of(error, message.body))
        if replied and isinstance(error, REFUSAL_ERRORS):
            await message.ack()
            return
        reason, cause = reason_of(error), cause_of(error)
        await self._retries.run(partial(dead_letter, self._bus, message, SUBMISSIONS_QUEUE.name, reason, cause))

    async def _send_reply(self, message: IncomingMessage, answer: SubmissionAccepted | SubmissionRefused) -> bool:
        """Reply if possible; return whether the broker confirmed it.

        A `reply_to` that names a queue of Treadle is refused, because a service would consume the reply.
        """
        if message.reply_to is None or message.reply_to in QUEUES_BY_NAME:
            return False
        try:
            await self._bus.publish(
                OutgoingMessage(
                    exchange="",
                    routing_key=message.reply_to,
                    body=encode(answer),
                    message_id=str(answer.message_id),
                    correlation_id=message.correlation_id,
                    mandatory=False,
                )
            )
        except PublishFailed as error:
            log.warning("reply_failed", reply_to=message.reply_to, error=str(error))
            return False
        return True


class SettlingMiddleware(BaseMiddleware[Any, Any]):
    """Acknowledges, dead-letters or requeues each delivery of a FastStream subscriber with `ack_policy=MANUAL`.

    With MANUAL, FastStream itself never acknowledges or rejects a delivery, even if its body fails validation.
    """

    def __init__(self, settler: SubmissionSettler, msg: Any, /, *, context: Any) -> None:  # noqa: ANN401 - FastStream's signature
        super().__init__(msg, context=context)
        self._settler = settler

    async def consume_scope(self, call_next: Callable[[Any], Awaitable[Any]], msg: StreamMessage[Any]) -> None:
        """Decode and handle the delivery, and reply with the handler's result or error."""
        await self._settler.settle(incoming_message(msg), partial(call_next, msg))

    async def after_processed(self, exc_type: Any = None, exc_val: Any = None, exc_tb: Any = None) -> bool:  # noqa: ANN401 - see above
        """Requeue a delivery that an unexpected error left unacknowledged; the queue's delivery limit stops repetition.

        Returns True for a cancellation, which hides it from FastStream: the channel is closed, and the broker
        delivers the message again.
        """
        if isinstance(exc_val, Exception) and not self.msg.processed:
            await asyncio.sleep(REQUEUE_DELAY)
            await _unless_closed(partial(self.msg.reject, requeue=True))
        return isinstance(exc_val, asyncio.CancelledError)


def incoming_message(message: StreamMessage[Any]) -> IncomingMessage:
    """Convert FastStream's message to the bus port's message."""
    raw = message.raw_message
    return IncomingMessage(
        body=raw.body,
        message_id=raw.message_id,
        routing_key=raw.routing_key or "",
        headers=plain_headers(raw.headers),
        correlation_id=raw.correlation_id,
        reply_to=raw.reply_to,
        redelivered=bool(raw.redelivered),
        ack=partial(_unless_closed, message.ack),
        requeue=partial(_unless_closed, message.nack),
        published_at=raw.timestamp,
        account=raw.user_id,
    )


async def _unless_closed(action: Callable[[], Awaitable[None]]) -> None:
    """Run an ack, nack or reject; if the channel is closed, the broker has already requeued the message."""
    try:
        await action()
    except BROKER_ERRORS as error:
        log.info("delivery_lost_before_acknowledging", error=str(error))
