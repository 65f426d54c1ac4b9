"""Sends hostile messages to every exchange of a broker."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress

import pika
from pika.adapters.blocking_connection import BlockingChannel

from tests.attack.hostile import TARGETS, Hostile, Target, hostile_messages

Prepared = Mapping[Target, Sequence[Hostile]]
"""The messages for each target."""


def prepare(number: int, seed: int = 1, targets: Sequence[Target] = TARGETS) -> Prepared:
    """Draw `number` hostile messages for each target.

    Hypothesis forbids other users of `random` meanwhile, so no service may run in this process.
    """
    return {target: hostile_messages(target, number, seed + 7919 * place) for place, target in enumerate(targets)}


def send(bus_url: str, prepared: Prepared) -> Mapping[str, int]:
    """Send the messages; return how many the broker took, by the target's name.

    It blocks, so an event loop calls it in a thread.
    """
    with pika.BlockingConnection(pika.URLParameters(bus_url)) as connection:
        return {target.name: _send(connection, target, messages) for target, messages in prepared.items()}


def _send(connection: pika.BlockingConnection, target: Target, messages: Sequence[Hostile]) -> int:
    """Send the messages; a message that closes the channel is not taken, and the next ones use a new channel."""
    taken = 0
    channel = _confirming(connection)
    for message in messages:
        if channel.is_closed:
            channel = _confirming(connection)
        with suppress(pika.exceptions.AMQPChannelError, pika.exceptions.NackError):
            properties = pika.BasicProperties(**message.properties)
            channel.basic_publish(target.exchange, target.routing_key, message.body, properties)
            taken += 1
    return taken


def _confirming(connection: pika.BlockingConnection) -> BlockingChannel:
    channel = connection.channel()
    channel.confirm_delivery()
    return channel
