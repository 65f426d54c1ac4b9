"""Messages between the port's shape and AMQP's."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

from pika import BasicProperties
from pika.delivery_mode import DeliveryMode
from pika.spec import Basic

from infra.bus.port import Incoming, Outgoing

Settle = Callable[[], Awaitable[None]]


def to_properties(message: Outgoing, content_type: str) -> BasicProperties:
    """What goes over the wire beside the body."""
    return BasicProperties(
        content_type=content_type,
        headers=dict(message.headers),
        delivery_mode=(DeliveryMode.Persistent if message.persistent else DeliveryMode.Transient).value,
        correlation_id=message.correlation_id,
        reply_to=message.reply_to,
        expiration=None if message.expires is None else str(int(message.expires * 1000)),
        message_id=message.message_id or None,
        timestamp=int(time.time()),
    )


def to_incoming(
    method: Basic.Deliver | Basic.GetOk, properties: BasicProperties, body: bytes, ack: Settle, requeue: Settle
) -> Incoming:
    """A message as it came."""
    headers: dict[str, Any] = properties.headers or {}
    return Incoming(
        body=body,
        message_id=properties.message_id,
        routing_key=method.routing_key or "",
        headers={name: _text(value) for name, value in headers.items() if _is_plain(value)},
        correlation_id=properties.correlation_id,
        reply_to=properties.reply_to,
        redelivered=bool(method.redelivered),
        ack=ack,
        requeue=requeue,
        published_at=_time(properties.timestamp),
    )


def _time(seconds: int | None) -> datetime | None:
    """None too for a time that no calendar has: others take it for milliseconds."""
    try:
        return None if seconds is None else datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError, OSError):
        return None


def _is_plain(value: Any) -> bool:  # noqa: ANN401 - whatever AMQP can carry
    return isinstance(value, str | bytes | int | float)


def _text(value: Any) -> str:  # noqa: ANN401 - whatever AMQP can carry
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)
