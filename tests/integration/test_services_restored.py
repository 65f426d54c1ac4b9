"""Control and the workers go on after bindings, queues and exchanges were deleted at the broker, without a restart."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import aio_pika
import pika
import pytest
import pytest_asyncio
from aio_pika.abc import AbstractChannel

from contracts.topology import (
    CLAIMS_QUEUE,
    COMMANDS,
    CONTROL_QUEUE,
    DEAD_QUEUE,
    PHASE_QUEUES,
    PROGRESS,
    SIGNALS,
    TASKS,
    Queue,
)
from infra.settings import Settings
from tests.attack.stack import Stack, stack_running
from tests.eventually import eventually

POISON = 300
"""More than the prefetch of the submissions."""


@pytest_asyncio.fixture
async def stack(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Stack]:
    """Control and a worker of each phase."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))  # the programs import the tests
    async with stack_running(settings.model_copy(update={"fork_programs": False})) as stack:
        yield stack


@pytest_asyncio.fixture
async def channel(bus_url: str) -> AsyncIterator[AbstractChannel]:
    """A channel of an operator who deletes things."""
    async with await aio_pika.connect(bus_url) as connection:
        yield await connection.channel()


async def unbind(channel: AbstractChannel, queue: Queue) -> None:
    await (await channel.get_queue(queue.name)).unbind(queue.exchange, queue.binding)


async def test_a_task_ends_although_bindings_queues_and_exchanges_are_deleted(
    stack: Stack, channel: AbstractChannel
) -> None:
    for queue in (CONTROL_QUEUE, CLAIMS_QUEUE, *PHASE_QUEUES.values()):
        await unbind(channel, queue)
    await channel.exchange_delete(COMMANDS.name)
    await channel.exchange_delete(PROGRESS.name)
    await channel.exchange_delete(SIGNALS.name)
    await channel.queue_delete(CLAIMS_QUEUE.name)
    task_id = await stack.submit()
    await stack.running.until(task_id, "COMPLETED")
    assert await stack.not_ready() == {}


async def test_poison_does_not_block_the_submissions_although_the_queue_of_dead_letters_was_deleted(
    stack: Stack, channel: AbstractChannel, bus_url: str
) -> None:
    def publish() -> None:
        with pika.BlockingConnection(pika.URLParameters(bus_url)) as connection:
            channel_of = connection.channel()
            for _ in range(POISON):
                channel_of.basic_publish(TASKS.name, "create_task", b"poison")

    await channel.queue_delete(DEAD_QUEUE.name)
    await asyncio.to_thread(publish)
    await stack.submit()

    async def all_kept() -> bool:
        return await stack.running.bus.depth(DEAD_QUEUE.name) == POISON

    await eventually(all_kept, f"{POISON} dead letters")


async def test_the_reason_why_a_task_waits_is_that_its_command_is_not_routed(
    stack: Stack, channel: AbstractChannel, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def never(_: float = 0.0) -> bool:
        return False

    topology = stack.running.bus._topology  # type: ignore[attr-defined]
    monkeypatch.setattr(stack.running.bus._publisher, "_restore", never)  # type: ignore[attr-defined]
    await unbind(channel, PHASE_QUEUES["optimize"])  # type: ignore[index]  # a Phase is its string
    task_id = await stack.submit()

    async def reason() -> bool:
        task = (await stack.running.http.get(f"/api/tasks/{task_id}")).json()
        return bool(task["waiting"] and task["waiting"]["reason"] == "not_routed")

    await eventually(reason, "the reason to be not_routed")
    assert await topology.restore()
    await stack.running.until(task_id, "COMPLETED")
