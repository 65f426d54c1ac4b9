"""The message bus as Treadle uses it; bodies are bytes, which `contracts.wire` encodes and decodes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from contracts.errors import PartUnavailable, TreadleError
from infra.bus.poison import Poison


class PublishFailed(PartUnavailable):
    """The bus did not confirm a message; publishing it again is safe."""


class Unroutable(PublishFailed):
    """No queue is bound for this exchange and routing key."""


class RequestTimedOut(TreadleError):
    """No reply arrived within the timeout."""


@dataclass(frozen=True, slots=True)
class OutgoingMessage:
    """A message to publish; with an empty `exchange` it goes to the queue that `routing_key` names."""

    exchange: str
    routing_key: str
    body: bytes
    message_id: str
    headers: Mapping[str, str] = field(default_factory=dict)
    correlation_id: str | None = None
    reply_to: str | None = None
    expires: float | None = None
    """Seconds after which the message expires in a queue; None: never."""
    persistent: bool = True
    mandatory: bool = True
    """Whether publishing raises Unroutable if no queue is bound for the message."""


@dataclass(frozen=True, slots=True)
class IncomingMessage:
    """A delivered message; it is unsettled until its handler calls `ack` or `requeue`, once."""

    body: bytes
    message_id: str | None
    routing_key: str
    headers: Mapping[str, str]
    correlation_id: str | None
    reply_to: str | None
    """The queue for the reply; publish it to the default exchange and not mandatory, as the requester may be gone."""
    redelivered: bool
    ack: Callable[[], Awaitable[None]]
    """Acknowledge the message. Raises nothing if the connection is lost; the message is then redelivered."""
    requeue: Callable[[], Awaitable[None]]
    """Put the message back into its queue, for this or another consumer."""
    published_at: datetime | None = None
    """The time of publication by the publisher's clock; None if the message does not contain it."""
    account: str | None = None
    """The account that published the message, as the broker has validated; None if the message does not name it."""


Handler = Callable[[IncomingMessage], Awaitable[None]]
"""Handles a message and settles it itself; it is cancelled when the bus loses the delivery or is closed.

`infra.bus.handling` says what happens if it raises.
"""


class Subscription(Protocol):
    """A consumer that the bus restores after a lost connection."""

    async def cancel(self) -> None:
        """Receive no more messages; the handlers that run are not cancelled."""
        ...

    @property
    def attached(self) -> bool:
        """Whether the consumer is registered at the broker now."""
        ...


class Bus(Protocol):
    """A message bus on which the topology of `contracts.topology` is declared."""

    @property
    def name(self) -> str:
        """The adapter: "rabbitmq" or "in-process"."""
        ...

    @property
    def poison(self) -> Poison:
        """The messages that the consumers of this process could not handle."""
        ...

    async def start(self) -> None:
        """Connect and declare the topology. Raises BusUnavailable if either fails."""
        ...

    async def close(self) -> None:
        """Cancel the consumers and disconnect; unsettled messages are redelivered to other consumers."""
        ...

    async def publish(self, message: OutgoingMessage) -> None:
        """Publish and await the confirm for a limited time. Raises PublishFailed or Unroutable."""
        ...

    async def publish_all(self, messages: Sequence[OutgoingMessage]) -> list[PublishFailed | None]:
        """Publish all and await the confirms together. Returns one outcome for each, in order; raises nothing."""
        ...

    async def consume(self, queue: str, handler: Handler, *, prefetch: int) -> Subscription:
        """Run `handler` for each message of a shared queue, with at most `prefetch` unsettled messages at a time."""
        ...

    async def listen(self, exchange: str, binding: str, handler: Handler) -> Subscription:
        """Run `handler` for each message of a private, bounded queue, which is deleted with this bus.

        Messages are handled one at a time, and the bus acknowledges them after the handler returns.
        """
        ...

    async def request(self, message: OutgoingMessage, *, timeout: float) -> bytes:
        """Publish with a private `reply_to` and await the body of the reply.

        Raises RequestTimedOut if no reply arrives within `timeout` seconds, and PublishFailed.
        """
        ...

    async def depth(self, queue: str) -> int:
        """The number of messages ready in a shared queue. Raises BusUnavailable."""
        ...

    async def consumers(self, queue: str) -> int:
        """The number of consumers of a shared queue, of all processes. Raises BusUnavailable."""
        ...

    async def missing(self) -> Mapping[str, str]:
        """The parts of the topology that do not exist now, by name, each with a sentence. Raises BusUnavailable."""
        ...

    async def replace_outdated(self) -> set[str]:
        """Replace the empty queues that an earlier version declared; return the names of those that are not empty.

        Raises BusUnavailable.
        """
        ...

    def browse(self, queue: str, limit: int) -> AbstractAsyncContextManager[list[IncomingMessage]]:
        """The oldest `limit` ready messages of a shared queue, reserved for the caller during the block.

        The end of the block puts unacknowledged messages back in their order. Raises BusUnavailable.
        """
        ...


class BusUnavailable(PartUnavailable):
    """The bus cannot be reached or refuses the request; the text says why."""
