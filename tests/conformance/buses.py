"""Both buses as fixtures, and handlers that keep what they get."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextvars import ContextVar
from uuid import uuid4

import pytest
import pytest_asyncio

from contracts.topology import (
    CLAIMS,
    COMMANDS,
    PHASE_QUEUES,
    Exchange,
)
from infra.bus.inprocess import InProcessBus
from infra.bus.port import Bus, Incoming, Outgoing
from infra.bus.rabbitmq import RabbitMQBus

TRAIN = PHASE_QUEUES["train"].name  # type: ignore[index]  # a Phase is its string
PATIENCE = 10.0
WHOSE = ContextVar("whose", default="nobody's")


@pytest.fixture(params=["in-process", "rabbitmq"])
def adapter(request: pytest.FixtureRequest) -> Bus:
    if request.param == "in-process":
        return InProcessBus()
    return RabbitMQBus(request.getfixturevalue("bus_url"))


@pytest_asyncio.fixture
async def bus(adapter: Bus) -> AsyncIterator[Bus]:
    await adapter.start()
    yield adapter
    await adapter.close()


class Inbox:
    """A handler that keeps what it gets, and settles nothing by itself."""

    def __init__(self) -> None:
        self.taken: list[Incoming] = []
        self._arrived = asyncio.Condition()

    async def __call__(self, message: Incoming) -> None:
        async with self._arrived:
            self.taken.append(message)
            self._arrived.notify_all()

    async def holds(self, count: int) -> list[Incoming]:
        """Wait until at least `count` have arrived."""
        async with asyncio.timeout(PATIENCE), self._arrived:
            await self._arrived.wait_for(lambda: len(self.taken) >= count)
        return self.taken

    @property
    def bodies(self) -> list[bytes]:
        return [message.body for message in self.taken]


class AckingInbox(Inbox):
    async def __call__(self, message: Incoming) -> None:
        await message.ack()
        await super().__call__(message)


def outgoing(body: bytes = b"{}", exchange: Exchange = COMMANDS, key: str = "train", **more: object) -> Outgoing:
    return Outgoing(exchange.name, key, body, str(uuid4()), **more)  # type: ignore[arg-type]


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not await condition():  # noqa: ASYNC110 - the broker tells nobody when a depth changes
            await asyncio.sleep(0.02)


async def depth_is(bus: Bus, queue: str, expected: int) -> None:
    async def reached() -> bool:
        return await bus.depth(queue) == expected

    await until(reached)


def claim(body: bytes = b"{}", **more: object) -> Outgoing:
    return outgoing(body, CLAIMS, "claim", persistent=False, **more)


def reply(asked: Incoming, body: bytes) -> Outgoing:
    assert asked.reply_to is not None, "it was a request"
    return Outgoing("", asked.reply_to, body, str(uuid4()), correlation_id=asked.correlation_id, mandatory=False)
