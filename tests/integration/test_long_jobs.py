"""A job that outlasts RabbitMQ's patience with a consumer, on a broker that has little of it.

RabbitMQ closes a channel whose delivery is unacknowledged for `consumer_timeout`, 30 minutes unless set. A worker
that held its delivery, or a second one behind it, would run its jobs over and over.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from uuid import UUID

import aio_pika
import pytest
from pydantic import SecretStr

from contracts.commands import PhaseCommand
from contracts.tasks import Phase
from contracts.topology import PHASE_QUEUES
from infra.bus.port import Handler, Incoming, Subscription
from infra.bus.rabbitmq import RabbitMQBus
from infra.objects import ObjectStore
from infra.settings import Settings
from infra.stack.rabbitmq import RabbitMQNode, rabbitmq_script
from infra.worker.plan import PhaseWorker, Plan
from tests import servers
from tests.chaos.in_process import Main, host_with
from tests.chaos.program import Spec, coroutine
from tests.chaos.worker import COROUTINE, WORKERS
from tests.eventually import eventually
from tests.integration.control_parts import Running, add_dataset, control_running

TRAIN = PHASE_QUEUES[Phase.TRAIN].name
STANDARD = {"taskName": "long", "modelName": "/models/none", "userId": 1, "autoStart": True}


@dataclass(frozen=True)
class Pace:
    """Seconds: of the long phase, of the broker's patience, and between the broker's looks at its channels."""

    phase: float
    consumer_timeout: float
    look: float


MINUTES = Pace(phase=180, consumer_timeout=60, look=60)
SECONDS = Pace(phase=12, consumer_timeout=4, look=1)


class CountingBus(RabbitMQBus):
    """Counts the deliveries of each command."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.deliveries: Counter[str | None] = Counter()

    async def consume(self, queue: str, handler: Handler, *, prefetch: int) -> Subscription:
        async def counted(message: Incoming) -> None:
            self.deliveries[message.message_id] += 1
            await handler(message)

        return await super().consume(queue, counted, prefetch=prefetch)


@asynccontextmanager
async def impatient_broker(folder: Path, pace: Pace) -> AsyncIterator[str]:
    """The address of a broker of one's own that gives a consumer this long."""
    if rabbitmq_script("rabbitmq-server") is None:
        servers.missing("the broker's patience is set on a node of one's own, and rabbitmq-server is not installed")
    node = RabbitMQNode(folder)
    try:
        await node.start()
        for name, seconds in (("consumer_timeout", pace.consumer_timeout), ("channel_tick_interval", pace.look)):
            await node.control("eval", f"application:set_env(rabbit, {name}, {int(seconds * 1000)}).")
        yield node.url
    finally:
        await node.stop()


@asynccontextmanager
async def working(worker: PhaseWorker, settings: Settings, program: Main = coroutine) -> AsyncIterator[CountingBus]:
    """A worker; the bus that it is on."""
    async with AsyncExitStack() as stack:
        bus, objects = CountingBus(settings.bus_url.get_secret_value()), ObjectStore(settings)
        stack.push_async_callback(objects.close)
        stack.push_async_callback(bus.close)
        await bus.start()
        await objects.start()
        host = host_with({COROUTINE: program}, worker, bus, objects, settings)
        stack.push_async_callback(host.stop)
        await host.start()
        yield bus


def first_long(longest: float) -> Main:
    """A program whose first job is the long one."""
    turns = iter([longest])

    async def work(folder: Path) -> None:
        await asyncio.sleep(next(turns, 0.0))
        await coroutine(folder)

    return work


def without_children(worker: PhaseWorker) -> PhaseWorker:
    """Every job is done by the coroutine, whatever its task's script says."""

    def plan(command: PhaseCommand) -> Plan:
        return Plan(COROUTINE, Spec(key=command.key, seed=command.seed))

    return replace(worker, plan=plan)


@asynccontextmanager
async def held_delivery(url: str) -> AsyncIterator[aio_pika.abc.AbstractChannel]:
    """A consumer as Treadle has none: it keeps its delivery while it works. The channel that it does so on."""
    async with await aio_pika.connect(url) as connection:
        channel = await connection.channel()
        queue = await channel.declare_queue("held", durable=True, arguments={"x-queue-type": "quorum"})
        await channel.default_exchange.publish(aio_pika.Message(b"work"), queue.name)
        taken = asyncio.Event()

        async def hold(_: aio_pika.abc.AbstractIncomingMessage) -> None:
            taken.set()

        await queue.consume(hold)
        await taken.wait()
        yield channel


async def submit(running: Running) -> UUID:
    body = {**STANDARD, "datasetId": "rows"}
    return UUID((await running.http.post("/api/tasks/standard", json=body)).json()["taskId"])


@pytest.mark.slow
@pytest.mark.parametrize("pace", [SECONDS, pytest.param(MINUTES, marks=pytest.mark.long)], ids=["seconds", "minutes"])
async def test_a_phase_longer_than_the_brokers_patience_completes_once_and_the_command_behind_it_is_delivered_once(
    pace: Pace, database_url: str, s3_settings: dict[str, object], tmp_path: Path
) -> None:
    async with AsyncExitStack() as stack:
        url = await stack.enter_async_context(impatient_broker(tmp_path / "rabbitmq", pace))
        settings = Settings(
            bus_url=SecretStr(url), database_url=SecretStr(database_url), work_dir=tmp_path / "work", **s3_settings
        )
        running = await stack.enter_async_context(control_running(settings))
        await add_dataset(running.store, "rows")
        held = await stack.enter_async_context(held_delivery(url))
        for phase in (Phase.OPTIMIZE, Phase.EVALUATE):
            await stack.enter_async_context(working(without_children(WORKERS[phase]), settings))
        trainer = without_children(WORKERS[Phase.TRAIN])
        bus = await stack.enter_async_context(working(trainer, settings, first_long(pace.phase)))
        tasks = [await submit(running) for _ in range(2)]
        await eventually(lambda: running.bus.depth(TRAIN), "the second command to wait")

        async def completed() -> bool:
            return [await running.status(task) for task in tasks] == ["COMPLETED"] * 2

        await eventually(completed, "both tasks to complete", pace.phase + 60)
        runs = [run for task in tasks for run in await running.store.runs(task)]

    assert held.is_closed, "the broker was not as impatient as this test needs it"
    assert [run.key.attempt for run in runs] == [1] * 6
    assert sorted(bus.deliveries.values()) == [1, 1]
