"""Messages that travel together: those of one turn of the loop that may, in one message of the broker's.

What a message costs a broker that keeps it (a log entry, a confirm, a delivery, an acknowledgement) is the same for one
event as for thirty; a busy worker's events end in bursts.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Generic, TypeVar

import structlog
from pika import BasicProperties
from pydantic import BaseModel, TypeAdapter, ValidationError

from infra.bus.port import Outgoing
from infra.bus.rabbitmq_delivery import Settle

TOGETHER = "application/vnd.treadle.together+json"
"""Content type of a message that is an array of messages."""
MOST = 32
"""In one message: what one of them holds up, and what comes again with it, stays little."""

log = structlog.get_logger(__name__)
Sent = TypeVar("Sent")


class _Part(BaseModel):
    """One of the messages that came together."""

    message_id: str
    headers: dict[str, str]
    body: str


_PARTS = TypeAdapter(list[_Part])


class Together(Generic[Sent]):
    """Gathers what may share a message, by exchange and routing key, until this turn of the loop has ended."""

    def __init__(self, send: Callable[[Outgoing], Sent]) -> None:
        self._send = send
        self._waiting: dict[tuple[str, str], list[tuple[Outgoing, asyncio.Future[Sent]]]] = {}

    def add(self, message: Outgoing) -> asyncio.Future[Sent]:
        """Send it with the others; what `send` will give for the message that they share."""
        if not self._waiting:
            asyncio.get_running_loop().call_soon(self._flush)
        sent: asyncio.Future[Sent] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault((message.exchange, message.routing_key), []).append((message, sent))
        return sent

    def _flush(self) -> None:
        waiting, self._waiting = self._waiting, {}
        for group in waiting.values():
            for begin in range(0, len(group), MOST):
                self._send_some(group[begin : begin + MOST])

    def _send_some(self, some: Sequence[tuple[Outgoing, asyncio.Future[Sent]]]) -> None:
        waiting = [sent for _, sent in some if not sent.done()]
        try:
            answer = self._send(pack([message for message, _ in some]))
        except Exception as error:  # noqa: BLE001  # whatever it is, nobody may wait for ever
            for sent in waiting:
                sent.set_exception(error)
            return
        for sent in waiting:
            sent.set_result(answer)


class Whole:
    """A message that came with several parts: acknowledged when all are, given back whole when one of them is."""

    def __init__(self, parts: int, ack: Settle, requeue: Settle) -> None:
        self._left = parts
        self._ack = ack
        self.requeue = requeue

    def part(self) -> tuple[Settle, Settle]:
        """How one part is acknowledged, and how it is given back. The others come again with it, which is harmless."""
        settled = False

        async def ack() -> None:
            nonlocal settled
            if settled:
                return
            settled = True
            self._left -= 1
            if self._left == 0:
                await self._ack()

        return ack, self.requeue


def pack(messages: Sequence[Outgoing]) -> Outgoing:
    """One message for all; a single one stays as it is."""
    first, *others = messages
    if not others:
        return replace(first, shared=False)
    parts = [_Part(message_id=m.message_id, headers=dict(m.headers), body=m.body.decode()) for m in messages]
    return replace(first, headers={}, body=_PARTS.dump_json(parts))


def unpack(properties: BasicProperties, body: bytes) -> list[tuple[BasicProperties, bytes]]:
    """The messages in one that came, each with properties of its own; most often it is one itself.

    What only says that it holds several is one itself too: whoever handles it says what is wrong with it.
    """
    parts = _parts(body) if properties.content_type == TOGETHER else ()
    if not parts:
        return [(properties, body)]
    outer = properties.headers or {}
    return [
        (
            BasicProperties(
                message_id=part.message_id, headers={**outer, **part.headers}, timestamp=properties.timestamp
            ),
            part.body.encode(),
        )
        for part in parts
    ]


def _parts(body: bytes) -> Sequence[_Part]:
    try:
        return _PARTS.validate_json(body)
    except ValidationError as error:
        log.warning("not_several_messages", error=str(error))
        return ()
