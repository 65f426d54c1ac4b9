"""Fixtures of both buses, and handlers that record the messages that they receive."""

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
from infra.bus.port import Bus, IncomingMessage, OutgoingMessage
from infra.bus.rabbitmq import RabbitMQBus

TRAIN = PHASE_QUEUES["train"].name  # type: ignore[index]  # a Phase is its string
TIMEOUT = 10.0
CALLER = ContextVar("caller", default="unset")


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


class Recorder:
    """A handler that records the messages that it receives, and settles none of them."""

    def __init__(self) -> None:
        self.messages: list[IncomingMessage] = []
        self._arrived = asyncio.Condition()

    async def __call__(self, message: IncomingMessage) -> None:
        async with self._arrived:
            self.messages.append(message)
            self._arrived.notify_all()

    async def received(self, count: int) -> list[IncomingMessage]:
        """Wait until at least `count` messages have arrived, and return all of them."""
        async with asyncio.timeout(TIMEOUT), self._arrived:
            await self._arrived.wait_for(lambda: len(self.messages) >= count)
        return self.messages

    @property
    def bodies(self) -> list[bytes]:
        return [message.body for message in self.messages]


class AckingRecorder(Recorder):
    async def __call__(self, message: IncomingMessage) -> None:
        await message.ack()
        await super().__call__(message)


def outgoing(body: bytes = b"{}", exchange: Exchange = COMMANDS, key: str = "train", **more: object) -> OutgoingMessage:
    return OutgoingMessage(exchange.name, key, body, str(uuid4()), **more)  # type: ignore[arg-type]


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(TIMEOUT):
        while not await condition():  # noqa: ASYNC110 - the broker does not announce a changed depth
            await asyncio.sleep(0.02)


async def depth_is(bus: Bus, queue: str, expected: int) -> None:
    async def reached() -> bool:
        return await bus.depth(queue) == expected

    await until(reached)


def claim(body: bytes = b"{}", **more: object) -> OutgoingMessage:
    return outgoing(body, CLAIMS, "claim", persistent=False, **more)


def reply(request: IncomingMessage, body: bytes) -> OutgoingMessage:
    assert request.reply_to is not None, "the message is not a request"
    return OutgoingMessage(
        "", request.reply_to, body, str(uuid4()), correlation_id=request.correlation_id, mandatory=False
    )
