"""What Treadle needs of a message bus. Bytes in, bytes out: contracts encode and decode them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from contracts.errors import TreadleError


class PublishFailed(TreadleError):
    """The bus did not confirm: away, full or timed out. Publishing again is safe."""


class Unroutable(PublishFailed):
    """No queue is bound for this exchange and routing key."""


class RequestTimedOut(TreadleError):
    """No reply came in time."""


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A message to be published. An empty `exchange` sends straight to the queue named by `routing_key`."""

    exchange: str
    routing_key: str
    body: bytes
    message_id: str
    headers: Mapping[str, str] = field(default_factory=dict)
    correlation_id: str | None = None
    reply_to: str | None = None
    expires: float | None = None
    """Seconds after which nobody cares any more; None: never."""
    persistent: bool = True
    mandatory: bool = True
    """Raise Unroutable where no queue takes it. Fan-outs and progress set it to False."""


@dataclass(frozen=True, slots=True)
class Incoming:
    """A message as it arrived. It stays the bus's until `ack` or `requeue` is called, once."""

    body: bytes
    message_id: str | None
    routing_key: str
    headers: Mapping[str, str]
    correlation_id: str | None
    reply_to: str | None
    """Which queue awaits an answer, through the exchange without a name; never mandatory: nobody may be there now."""
    redelivered: bool
    ack: Callable[[], Awaitable[None]]
    """Handled, for good. Raises nothing where the connection is gone: the message comes again then."""
    requeue: Callable[[], Awaitable[None]]
    """Give it back, for this consumer or another."""
    published_at: datetime | None = None
    """When it was published, by its publisher's clock; None where it does not say."""


Handler = Callable[[Incoming], Awaitable[None]]
"""Settles its message itself. Cancelled when the bus loses the delivery or is closed."""


class Subscription(Protocol):
    """A consumer. It comes back by itself after the bus was away."""

    async def cancel(self) -> None:
        """Take no more messages; those not settled yet stay with their handlers."""
        ...

    @property
    def attached(self) -> bool:
        """Whether the bus really has this consumer at the moment."""
        ...


class Bus(Protocol):
    """A message bus with the topology of `contracts.topology` declared on it."""

    @property
    def name(self) -> str:
        """Which adapter it is: "rabbitmq" or "in-process"."""
        ...

    async def start(self) -> None:
        """Connect, and declare the topology. Raises BusUnavailable with what to do about it."""
        ...

    async def close(self) -> None:
        """Cancel the consumers and disconnect; what was not settled is delivered again, to others."""
        ...

    async def publish(self, message: Outgoing) -> None:
        """Publish and await the confirm. Raises PublishFailed or Unroutable; never waits for ever."""
        ...

    async def publish_all(self, messages: Sequence[Outgoing]) -> list[PublishFailed | None]:
        """Publish all, then await all confirms together. One answer a message, in order; raises nothing."""
        ...

    async def consume(self, queue: str, handler: Handler, *, prefetch: int) -> Subscription:
        """Run `handler` for each message of a shared queue, at most `prefetch` unsettled at once."""
        ...

    async def listen(self, exchange: str, binding: str, handler: Handler) -> Subscription:
        """The same on a private, bounded queue that vanishes with this bus; messages need no settling."""
        ...

    async def request(self, message: Outgoing, *, timeout: float) -> bytes:
        """Publish with a private `reply_to` and await the reply's body. Raises RequestTimedOut, PublishFailed."""
        ...

    async def depth(self, queue: str) -> int:
        """Messages ready in a shared queue."""
        ...

    def browse(self, queue: str, limit: int) -> AbstractAsyncContextManager[list[Incoming]]:
        """The oldest `limit` messages that are ready in a shared queue, nobody else's for the length of the block.

        What was not acked goes back to its place, in its order. Raises BusUnavailable.
        """
        ...


class BusUnavailable(TreadleError):
    """The bus cannot be reached or refuses us; the text names the address and what to check."""
