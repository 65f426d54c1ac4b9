"""A job that lasts longer than RabbitMQ's consumer timeout, on a broker with a short one.

RabbitMQ closes a channel whose delivery is unacknowledged for `consumer_timeout`, 30 minutes by default. A worker that
did not acknowledge its delivery before the job would receive it again, and repeat the job.
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
from infra.bus.port import Handler, IncomingMessage, Subscription
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
class Durations:
    """Seconds: of the long phase, of the consumer timeout, and between the broker's checks of its channels."""

    phase: float
    consumer_timeout: float
    check_interval: float


MINUTES = Durations(phase=180, consumer_timeout=60, check_interval=60)
SECONDS = Durations(phase=12, consumer_timeout=4, check_interval=1)


class CountingBus(RabbitMQBus):
    """Counts the deliveries of each command."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.deliveries: Counter[str | None] = Counter()

    async def consume(self, queue: str, handler: Handler, *, prefetch: int) -> Subscription:
        async def counted(message: IncomingMessage) -> None:
            self.deliveries[message.message_id] += 1
            await handler(message)

        return await super().consume(queue, counted, prefetch=prefetch)


@asynccontextmanager
async def broker_with_a_consumer_timeout(folder: Path, durations: Durations) -> AsyncIterator[str]:
    """Start a private broker with this consumer timeout; yields its address."""
    if rabbitmq_script("rabbitmq-server") is None:
        servers.missing(
            "the consumer timeout can be set on a private broker only, and rabbitmq-server is not installed"
        )
    node = RabbitMQNode(folder)
    try:
        await node.start()
        for name, seconds in (
            ("consumer_timeout", durations.consumer_timeout),
            ("channel_tick_interval", durations.check_interval),
        ):
            await node.control("eval", f"application:set_env(rabbit, {name}, {int(seconds * 1000)}).")
        yield node.url
    finally:
        await node.stop()


@asynccontextmanager
async def worker_running(
    worker: PhaseWorker, settings: Settings, program: Main = coroutine
) -> AsyncIterator[CountingBus]:
    """Run a worker; yields its bus."""
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


def first_long(seconds: float) -> Main:
    """A program whose first job takes this number of seconds."""
    delays = iter([seconds])

    async def work(folder: Path) -> None:
        await asyncio.sleep(next(delays, 0.0))
        await coroutine(folder)

    return work


def without_children(worker: PhaseWorker) -> PhaseWorker:
    """The same worker, with the coroutine as the program of every job."""

    def plan(command: PhaseCommand) -> Plan:
        return Plan(COROUTINE, Spec(key=command.key, seed=command.seed))

    return replace(worker, plan=plan)


@asynccontextmanager
async def unacknowledged_delivery(url: str) -> AsyncIterator[aio_pika.abc.AbstractChannel]:
    """Start a consumer that does not acknowledge its delivery, unlike those of Treadle; yields its channel."""
    async with await aio_pika.connect(url) as connection:
        channel = await connection.channel()
        queue = await channel.declare_queue("unacknowledged", durable=True, arguments={"x-queue-type": "quorum"})
        await channel.default_exchange.publish(aio_pika.Message(b"work"), queue.name)
        delivered = asyncio.Event()

        async def keep(_: aio_pika.abc.AbstractIncomingMessage) -> None:
            delivered.set()

        await queue.consume(keep)
        await delivered.wait()
        yield channel


async def submit(running: Running) -> UUID:
    body = {**STANDARD, "datasetId": "rows"}
    return UUID((await running.http.post("/api/tasks/standard", json=body)).json()["taskId"])


@pytest.mark.slow
@pytest.mark.parametrize(
    "durations", [SECONDS, pytest.param(MINUTES, marks=pytest.mark.long)], ids=["seconds", "minutes"]
)
async def test_a_phase_longer_than_the_consumer_timeout_completes_once_and_the_command_behind_it_is_delivered_once(
    durations: Durations, database_url: str, s3_settings: dict[str, object], tmp_path: Path
) -> None:
    async with AsyncExitStack() as stack:
        url = await stack.enter_async_context(broker_with_a_consumer_timeout(tmp_path / "rabbitmq", durations))
        settings = Settings(
            bus_url=SecretStr(url), database_url=SecretStr(database_url), work_dir=tmp_path / "work", **s3_settings
        )
        running = await stack.enter_async_context(control_running(settings))
        await add_dataset(running.store, "rows")
        channel = await stack.enter_async_context(unacknowledged_delivery(url))
        for phase in (Phase.OPTIMIZE, Phase.EVALUATE):
            await stack.enter_async_context(worker_running(without_children(WORKERS[phase]), settings))
        trainer = without_children(WORKERS[Phase.TRAIN])
        bus = await stack.enter_async_context(worker_running(trainer, settings, first_long(durations.phase)))
        tasks = [await submit(running) for _ in range(2)]
        await eventually(lambda: running.bus.depth(TRAIN), "the second command to wait")

        async def completed() -> bool:
            return [await running.status(task) for task in tasks] == ["COMPLETED"] * 2

        await eventually(completed, "both tasks to complete", durations.phase + 60)
        attempts = [attempt for task in tasks for attempt in await running.store.attempts(task)]

    assert channel.is_closed, "the broker did not close the channel of the unacknowledged delivery"
    assert [attempt.key.attempt for attempt in attempts] == [1] * 6
    assert sorted(bus.deliveries.values()) == [1, 1]
