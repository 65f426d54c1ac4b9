"""Handing a message to a connection."""

from __future__ import annotations

from infra.bus.port import Outgoing, PublishFailed
from infra.bus.rabbitmq_channel import AWAY, Channel
from infra.bus.rabbitmq_delivery import to_properties
from infra.bus.rabbitmq_link import Link
from infra.bus.rabbitmq_sharing import TOGETHER


def send(link: Link, channel: Channel | None, message: Outgoing) -> None:
    """Send on a channel of `link`. Raises PublishFailed at once, rather than wait unseen, where the broker is away."""
    if channel is None or not channel.open:
        raise PublishFailed(f"{where(message)}: the broker is away")
    if link.blocked:  # what is sent now would lie in our own memory, and again with every try
        raise PublishFailed(f"{where(message)}: the broker takes no messages; it is short of memory or disk")
    properties = to_properties(message, TOGETHER if message.shared else "application/json")
    try:
        channel.raw.basic_publish(
            message.exchange, message.routing_key, message.body, properties, mandatory=message.mandatory
        )
    except AWAY as error:
        raise PublishFailed(f"{where(message)}: {error or type(error).__name__}") from error


def where(message: Outgoing) -> str:
    """What a message was meant for."""
    return f"{message.exchange or 'queue'}/{message.routing_key}"
