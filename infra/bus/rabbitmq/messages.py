"""Conversion of messages between the bus port and AMQP."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from typing import Any

import structlog
from aio_pika import DeliveryMode
from aio_pika.exceptions import CONNECTION_EXCEPTIONS
from aiormq.abc import DeliveredMessage
from pamqp.commands import Basic

from infra.bus.port import IncomingMessage, OutgoingMessage

log = structlog.get_logger(__name__)


def to_properties(message: OutgoingMessage, account: str | None = None) -> Basic.Properties:
    """The AMQP properties of a message that `account` publishes; the broker refuses a `user_id` of another account."""
    return Basic.Properties(
        content_type="application/json",
        headers=dict(message.headers),
        delivery_mode=DeliveryMode.PERSISTENT if message.persistent else DeliveryMode.NOT_PERSISTENT,
        correlation_id=message.correlation_id,
        reply_to=message.reply_to,
        expiration=None if message.expires is None else str(int(message.expires * 1000)),
        message_id=message.message_id or None,
        timestamp=datetime.now(UTC),
        user_id=account,
    )


class Delivery:
    """One delivery, settled once: acknowledged, requeued or rejected. On a closed channel settling has no effect."""

    def __init__(self, message: DeliveredMessage, on_progress: Callable[[Delivery], None] = lambda _: None) -> None:
        assert message.delivery_tag is not None, "only the answer of an empty queue to basic.get has no delivery tag"
        self._message = message
        self._tag = message.delivery_tag
        self._on_progress = on_progress
        self.settled = False
        self.handled = False

    def incoming(self) -> IncomingMessage:
        """The message as the bus port defines it."""
        message, properties = self._message, self._message.header.properties
        return IncomingMessage(
            body=message.body,
            message_id=properties.message_id,
            routing_key=message.routing_key or "",
            headers=plain_headers(properties.headers or {}),
            correlation_id=properties.correlation_id,
            reply_to=properties.reply_to,
            redelivered=bool(message.redelivered),
            ack=self.ack,
            requeue=self.requeue,
            published_at=properties.timestamp,
            account=properties.user_id,
        )

    async def ack(self) -> None:
        """Acknowledge the delivery."""
        await self._settle(self._message.channel.basic_ack)

    async def requeue(self) -> None:
        """Requeue it with a nack, which since RabbitMQ 4.3 does not count towards the delivery limit."""
        await self._settle(self._message.channel.basic_nack)

    async def discard(self) -> None:
        """Give it up; the broker dead-letters it if its queue has dead letters."""
        await self._settle(self._message.channel.basic_reject, requeue=False)

    async def _settle(self, send: Callable[..., Awaitable[None]], **how: bool) -> None:
        """Queue the frame, without awaiting a reply, because the broker sends none."""
        if self.settled:
            return
        self.settled = True
        try:
            await send(self._tag, wait=False, **how)
        except CONNECTION_EXCEPTIONS as error:
            log.info("delivery_lost_before_acknowledging", delivery_tag=self._tag, error=str(error))
        finally:
            self._on_progress(self)


def plain_headers(headers: Mapping[str, Any]) -> dict[str, str]:
    """The headers whose values are text or numbers, as text."""
    return {name: _text(value) for name, value in headers.items() if isinstance(value, str | bytes | int | float)}


def _text(value: Any) -> str:  # noqa: ANN401 - any type of AMQP
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)
