"""Messages between the port's shape and aio-pika's."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import structlog
from aio_pika import DeliveryMode, Message
from aio_pika.abc import AbstractIncomingMessage
from aio_pika.exceptions import CONNECTION_EXCEPTIONS

from infra.bus.port import Incoming, Outgoing

log = structlog.get_logger(__name__)


def to_amqp(message: Outgoing) -> Message:
    """What goes over the wire."""
    return Message(
        message.body,
        message_id=message.message_id or None,
        headers=dict(message.headers),
        content_type="application/json",
        correlation_id=message.correlation_id,
        reply_to=message.reply_to,
        expiration=message.expires,
        delivery_mode=DeliveryMode.PERSISTENT if message.persistent else DeliveryMode.NOT_PERSISTENT,
        timestamp=datetime.now(UTC),
    )


class Delivery:
    """One delivery. It is settled once, by whoever asks first; where the channel is gone the broker has it back."""

    def __init__(self, message: AbstractIncomingMessage, progressed: Callable[[Delivery], None]) -> None:
        self._message = message
        self._progressed = progressed
        self.settled = False
        self.handled = False
        self.incoming = Incoming(
            body=message.body,
            message_id=message.message_id,
            routing_key=message.routing_key or "",
            headers={name: _text(value) for name, value in message.headers.items() if _is_plain(value)},
            correlation_id=message.correlation_id,
            reply_to=message.reply_to,
            redelivered=bool(message.redelivered),
            ack=self.ack,
            requeue=self.requeue,
            published_at=message.timestamp,
        )

    async def ack(self) -> None:
        """Handled, for good."""
        await self._settle(self._ack)

    async def requeue(self) -> None:
        """Give it back unharmed: from RabbitMQ 4.3 on a nack does not count towards the delivery limit."""
        await self._settle(lambda: self._message.nack(requeue=True))

    async def refuse(self) -> None:
        """Give it back as harmful: a reject counts towards the delivery limit on every version."""
        await self._settle(lambda: self._message.reject(requeue=True))

    async def _ack(self) -> None:
        """Hand the frame over; nobody gains by awaiting that it is written, and the broker answers nothing."""
        assert self._message.delivery_tag is not None, "consumed with acknowledgements"
        await self._message.channel.basic_ack(self._message.delivery_tag, wait=False)

    async def _settle(self, step: Callable[[], Awaitable[None]]) -> None:
        if self.settled:
            return
        self.settled = True
        try:
            await step()
        except CONNECTION_EXCEPTIONS as error:
            log.info("delivery_lost_before_settling", message_id=self._message.message_id, error=str(error))
        finally:
            self._progressed(self)


def _is_plain(value: Any) -> bool:  # noqa: ANN401 - whatever AMQP can carry
    return isinstance(value, str | bytes | int | float)


def _text(value: Any) -> str:  # noqa: ANN401 - whatever AMQP can carry
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)
