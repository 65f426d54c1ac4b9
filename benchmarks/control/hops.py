"""What the broker alone takes for the messages of one task: the least that idle latency can be on this machine."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import uuid4

from benchmarks.control.load import REST
from contracts.tasks import Phase
from contracts.topology import CLAIMS_QUEUE, CONTROL_QUEUE, PHASE_QUEUES, SUBMISSIONS_QUEUE, Queue
from infra.bus.port import Incoming, Outgoing
from infra.bus.rabbitmq import RabbitMQBus

BODY = b"x" * 800
"""About as long as a command."""
DURABLE = (SUBMISSIONS_QUEUE, *(queue for phase in Phase for queue in (PHASE_QUEUES[phase], CONTROL_QUEUE)))
"""Where a task's lasting messages go, in order: the submission, and for each phase a command and an event."""
ANSWER = 10.0


class Hops:
    """Two ends that do nothing but hand messages to each other."""

    def __init__(self, here: RabbitMQBus, there: RabbitMQBus) -> None:
        self._here = here
        self._there = there
        self._came = asyncio.Event()

    @classmethod
    @asynccontextmanager
    async def open(cls, url: str) -> AsyncIterator[Hops]:
        """Upon queues that nobody else consumes."""
        here, there = RabbitMQBus(url), RabbitMQBus(url)
        await here.start()
        await there.start()
        self = cls(here, there)
        for queue in dict.fromkeys(DURABLE):
            await there.consume(queue.name, self._take, prefetch=64)
        await there.consume(CLAIMS_QUEUE.name, self._reply, prefetch=64)
        try:
            yield self
        finally:
            await here.close()
            await there.close()

    async def timed(self) -> float:
        """Seconds that one task's messages take, each sent when the one before has come."""
        await asyncio.sleep(REST)
        began = time.perf_counter()
        for place, queue in enumerate(DURABLE):
            await self._send(queue)
            if place % 2:  # a command is claimed
                await self._here.request(_message(CLAIMS_QUEUE, persistent=False), timeout=ANSWER)
        return time.perf_counter() - began

    async def _send(self, queue: Queue) -> None:
        self._came.clear()
        sending = asyncio.create_task(self._here.publish(_message(queue)))
        await self._came.wait()
        await sending

    async def _take(self, message: Incoming) -> None:
        self._came.set()
        await message.ack()

    async def _reply(self, message: Incoming) -> None:
        assert message.reply_to is not None, "a request"
        answer = Outgoing(
            "",
            message.reply_to,
            BODY,
            str(uuid4()),
            correlation_id=message.correlation_id,
            persistent=False,
            mandatory=False,
        )
        await self._there.publish(answer)
        await message.ack()


def _message(queue: Queue, *, persistent: bool = True) -> Outgoing:
    key = queue.binding if queue.binding != "#" else "bench"
    return Outgoing(queue.exchange, key, BODY, str(uuid4()), persistent=persistent)
