"""Measures how long the broker alone takes for the messages of one task: a lower bound of the idle latency."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import uuid4

from benchmarks.control.load import PAUSE
from contracts.tasks import Phase
from contracts.topology import CLAIMS_QUEUE, CONTROL_QUEUE, PHASE_QUEUES, SUBMISSIONS_QUEUE, Queue
from infra.bus.port import IncomingMessage, OutgoingMessage
from infra.bus.rabbitmq import RabbitMQBus

BODY = b"x" * 800
"""About the size of a command."""
DURABLE = (SUBMISSIONS_QUEUE, *(queue for phase in Phase for queue in (PHASE_QUEUES[phase], CONTROL_QUEUE)))
"""The queues of the persistent messages of one task, in order: a submission, then a command and an event per phase."""
ANSWER_TIMEOUT = 10.0


class Hops:
    """A sender and a receiver that only exchange messages."""

    def __init__(self, sender: RabbitMQBus, receiver: RabbitMQBus) -> None:
        self._sender = sender
        self._receiver = receiver
        self._received = asyncio.Event()

    @classmethod
    @asynccontextmanager
    async def open(cls, url: str) -> AsyncIterator[Hops]:
        """Connect both; no other consumer may exist on the queues."""
        sender, receiver = RabbitMQBus(url), RabbitMQBus(url)
        await sender.start()
        await receiver.start()
        self = cls(sender, receiver)
        for queue in dict.fromkeys(DURABLE):
            await receiver.consume(queue.name, self._take, prefetch=64)
        await receiver.consume(CLAIMS_QUEUE.name, self._reply, prefetch=64)
        try:
            yield self
        finally:
            await sender.close()
            await receiver.close()

    async def timed(self) -> float:
        """Seconds for the messages of one task, each sent when the one before has arrived."""
        await asyncio.sleep(PAUSE)
        began = time.perf_counter()
        for index, queue in enumerate(DURABLE):
            await self._send(queue)
            if index % 2:  # a command is followed by a claim
                await self._sender.request(_message(CLAIMS_QUEUE, persistent=False), timeout=ANSWER_TIMEOUT)
        return time.perf_counter() - began

    async def _send(self, queue: Queue) -> None:
        self._received.clear()
        sending = asyncio.create_task(self._sender.publish(_message(queue)))
        await self._received.wait()
        await sending

    async def _take(self, message: IncomingMessage) -> None:
        self._received.set()
        await message.ack()

    async def _reply(self, message: IncomingMessage) -> None:
        assert message.reply_to is not None, "a request has reply_to"
        answer = OutgoingMessage(
            "",
            message.reply_to,
            BODY,
            str(uuid4()),
            correlation_id=message.correlation_id,
            persistent=False,
            mandatory=False,
        )
        await self._receiver.publish(answer)
        await message.ack()


def _message(queue: Queue, *, persistent: bool = True) -> OutgoingMessage:
    key = queue.binding if queue.binding != "#" else "bench"
    return OutgoingMessage(queue.exchange, key, BODY, str(uuid4()), persistent=persistent)
