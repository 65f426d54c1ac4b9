"""Hostile messages on every exchange stop no consumer of control and of the workers.

`TREADLE_FUZZ` is the number of messages for each exchange.
"""

from __future__ import annotations

import asyncio
import os
from functools import partial
from pathlib import Path

import pytest

from contracts.topology import DEAD_QUEUE, QUEUES
from infra.settings import Settings
from infra.stack.rabbitmq import RabbitMQNode
from tests import servers
from tests.attack.fuzz import prepare, send
from tests.attack.hostile import TARGETS
from tests.attack.stack import Stack, stack_running
from tests.eventually import eventually

NUMBER = int(os.environ.get("TREADLE_FUZZ", "300"))
LEAST = 0.95
"""The part of the messages that the broker takes; it refuses some properties."""
DRAINED_WITHIN = 10.0 + 0.1 * NUMBER
"""Seconds."""


async def test_hostile_messages_on_every_exchange_stop_no_consumer(
    settings: Settings,
    bus_url: str,
    rabbitmq: servers.Broker,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))  # the programs import the tests
    settings = settings.model_copy(update={"fork_programs": False, "short_ttl": 45.0})
    prepared = prepare(NUMBER)
    async with stack_running(settings) as stack:
        taken = await asyncio.to_thread(send, bus_url, prepared)
        assert {name for name, number in taken.items() if number < LEAST * NUMBER} == set()
        assert set(taken) == {target.name for target in TARGETS}
        await check_that_nothing_stands(stack, rabbitmq)
    assert len(capsys.readouterr().out) < 5_000_000


async def check_that_nothing_stands(stack: Stack, rabbitmq: servers.Broker) -> None:
    async def drained() -> bool:
        return not await undrained(stack)

    await eventually(drained, f"the queues to be empty: {await undrained(stack)}", DRAINED_WITHIN)
    assert await stack.not_ready() == {}
    await stack.check_a_good_task()
    await stack.check_a_good_signal()
    assert await stack.running.bus.depth(DEAD_QUEUE.name) > 0
    if rabbitmq.node is not None:
        await eventually(partial(nothing_is_unsettled, rabbitmq.node), "every delivery to be settled")


async def nothing_is_unsettled(node: RabbitMQNode) -> bool:
    """Whether each queue but that of the dead letters has one consumer and no message; RabbitMQ counts every 5 s."""
    listed = await node.control("list_queues", "name", "messages", "consumers", "--no-table-headers")
    queues = dict(line.split(maxsplit=1) for line in listed.splitlines() if line.startswith("treadle."))
    return all(queues[queue.name].split() == ["0", "1"] for queue in QUEUES if queue is not DEAD_QUEUE)


async def undrained(stack: Stack) -> dict[str, int]:
    """The number of messages that wait in each queue but that of the dead letters, if there are any."""
    depths = {queue.name: await stack.running.bus.depth(queue.name) for queue in QUEUES if queue is not DEAD_QUEUE}
    return {name: depth for name, depth in depths.items() if depth}
