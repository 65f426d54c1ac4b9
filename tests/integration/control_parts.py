"""Control with its gateway on real services, and a worker that a test controls."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

import aio_pika
import httpx
from fastapi import FastAPI

from contracts.artifacts import dataset_prefix
from contracts.commands import COMMAND_OF, Command
from contracts.events import WorkerEvent
from contracts.leases import Claim, Heartbeat, LeaseAnswer, LeaseReply, LeaseRequest, WorkerState
from contracts.message import Message
from contracts.tasks import Phase
from contracts.topology import CLAIMS, EVENTS, PHASE_QUEUES
from contracts.wire import decode, encode
from control.gateway.app import build_app
from control.gateway.parts import GatewayParts
from control.gateway.row_checks import RowChecks
from control.service import Control, ControlParts
from control.store.port import Store
from control.store.postgres import PostgresStore
from control.store.values import Dataset
from infra.bus.connect import connect
from infra.bus.port import Bus, IncomingMessage, OutgoingMessage
from infra.objects import ObjectStore
from infra.settings import Settings
from infra.telemetry import Tracing
from tests.eventually import eventually

BODY = {
    "taskName": "a task",
    "modelName": "/models/base",
    "datasetId": "raw",
    "userId": 1,
    "hyperparameters": '{"learning_rate": 0.001, "epochs": 10}',
    "maxIterations": 4,
    "performanceThreshold": 0.9,
    "autoStart": True,
}
"""The body of an HTTP request that creates a task."""


@dataclass(frozen=True)
class Running:
    """Control inside the test process, with the services that it uses."""

    control: Control
    bus: Bus
    store: Store
    objects: ObjectStore
    app: FastAPI
    http: httpx.AsyncClient

    async def status(self, task_id: UUID) -> str:
        return (await self.store.task(task_id)).task.status.value

    async def until(self, task_id: UUID, status: str, within: float = 15.0) -> None:
        """Wait until the task has this status."""

        async def reached() -> bool:
            return await self.status(task_id) == status

        await eventually(reached, f"task to be {status}", within)


@asynccontextmanager
async def control_running(settings: Settings, bus: Bus | None = None) -> AsyncIterator[Running]:
    """Run control and its gateway on the services that `settings` names, or on `bus` if one is given."""
    async with AsyncExitStack() as stack:
        if bus is None:
            bus = connect(settings)
            stack.push_async_callback(bus.close)
            await bus.start()
        objects = ObjectStore(settings)
        stack.push_async_callback(objects.close)
        await objects.start()
        store = await PostgresStore.open(settings.database_url.get_secret_value(), settings.ttl)
        stack.push_async_callback(store.close)
        control = Control(ControlParts(settings, bus, store, objects, Tracing("test", "test", None)))
        stack.push_async_callback(control.stop)
        await control.start()
        parts = GatewayParts(
            store,
            control.submissions,
            objects,
            control.progress_hub,
            control.gauges.scrape,
            RowChecks(store, objects, settings, None),
            control.readiness,
        )
        gateway = build_app(parts)
        transport = httpx.ASGITransport(app=gateway)
        client = httpx.AsyncClient(transport=transport, base_url="http://control")
        await stack.enter_async_context(client)
        yield Running(control, bus, store, objects, gateway, client)


async def add_dataset(store: Store, dataset_id: str = "raw", user_id: int = 1) -> str:
    """Register a dataset without files and return its id."""
    now = await store.now()
    prefix = dataset_prefix(user_id, dataset_id)
    await store.add_dataset(Dataset(dataset_id, "rows", prefix, 10, None, "training", None, user_id, False, None, now))
    return dataset_id


class PuppetWorker:
    """A worker of one phase that does only what a test calls."""

    def __init__(self, bus: Bus, phase: Phase) -> None:
        self._bus = bus
        self._phase = phase
        self._state = WorkerState(worker_id=f"puppet-{phase}", phase=phase, host="test", slots=9, busy=0)
        self.commands: list[Command] = []

    async def start(self) -> None:
        await self._bus.consume(PHASE_QUEUES[self._phase].name, self._receive, prefetch=10)

    async def _receive(self, message: IncomingMessage) -> None:
        self.commands.append(decode(message.body, COMMAND_OF[self._phase]))
        await message.ack()

    async def command(self, count: int = 1) -> Command:
        """Wait for the `count`-th command."""

        async def received() -> bool:
            return len(self.commands) >= count

        await eventually(received, f"command {count} for {self._phase}")
        return self.commands[count - 1]

    async def claim(self, command: Command, claim_id: UUID | None = None) -> LeaseAnswer:
        claim = Claim(key=command.key, claim_id=claim_id or uuid4())
        return await self._request(claims=(claim,))

    async def heartbeat(self, command: Command, claim_id: UUID, checkpoint: str | None = None) -> LeaseAnswer:
        return await self._request(heartbeats=(Heartbeat(key=command.key, claim_id=claim_id, checkpoint=checkpoint),))

    async def report(self, event: WorkerEvent) -> None:
        await publish(self._bus, EVENTS.name, event)

    async def _request(self, claims: tuple[Claim, ...] = (), heartbeats: tuple[Heartbeat, ...] = ()) -> LeaseAnswer:
        request = LeaseRequest(request_id=uuid4(), worker=self._state, claims=claims, heartbeats=heartbeats)
        message = OutgoingMessage(
            CLAIMS.name, "claim", encode(request), str(request.message_id), expires=5, persistent=False
        )
        return decode(await self._bus.request(message, timeout=5), LeaseReply).answers[0]


async def publish(bus: Bus, exchange: str, message: Message) -> None:
    """Publish as a service does, with the kind as the routing key."""
    await bus.publish(OutgoingMessage(exchange, message.kind, encode(message), str(message.message_id)))


async def send(bus_url: str, message: dict[str, Any], *, exchange: str = "treadle.tasks") -> dict[str, Any]:
    """Publish with aio-pika alone, and return the answer from an exclusive queue."""
    async with await aio_pika.connect(bus_url) as connection:
        channel = await connection.channel()
        replies = await channel.declare_queue(exclusive=True)
        body = aio_pika.Message(json.dumps(message).encode(), reply_to=replies.name, correlation_id="c-1")
        await (await channel.get_exchange(exchange)).publish(body, routing_key=str(message.get("kind")))
        async with asyncio.timeout(15), replies.iterator() as answers:
            answer = await anext(answers)
            await answer.ack()
    assert answer.correlation_id == "c-1"
    content: dict[str, Any] = json.loads(answer.body)
    return content
