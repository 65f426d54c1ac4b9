"""The gateway for tests: the real application, submissions and machine on the in-memory store."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import httpx
import pytest_asyncio
from prometheus_client import CollectorRegistry

from cli.services.composition import CHECK_PROGRAM
from contracts.bounds import cut
from control.apply.applier import Applier
from control.apply.relay import Relay
from control.apply.submissions import Submissions
from control.consumers.progress_hub import ProgressHub, Watcher
from control.gateway.app import build_app
from control.gateway.errors import MAX_PATH
from control.gateway.limits import Capacity, Limits
from control.gateway.parts import GatewayParts
from control.gateway.row_checks import RowChecks
from control.machine.machine import MachineEvent
from control.store.values import Dataset
from control.telemetry.gauges import Gauges
from infra.bus.inprocess import InProcessBus
from infra.objects import ObjectStore
from infra.settings import Settings
from tests.memory_store import MemoryStore

UPLOAD_LIMIT = 80 * 2**20
STANDARD = {"taskName": "a task", "modelName": "/model", "datasetId": "rows", "userId": 1}
CONTINUOUS = {**STANDARD, "maxIterations": 3, "performanceThreshold": 0.9}


class ObservedProgressHub(ProgressHub):
    """A hub that sets `waiting` when a stream has sent everything and waits for more."""

    def __init__(self) -> None:
        super().__init__()
        self.waiting = asyncio.Event()

    @contextmanager
    def watch(self, task_id: UUID) -> Iterator[Watcher]:
        with super().watch(task_id) as watcher:
            changed = watcher.changed

            async def observed(timeout: float) -> bool:
                self.waiting.set()
                return await changed(timeout)

            watcher.changed = observed  # type: ignore[method-assign]
            yield watcher


@dataclass
class Gateway:
    """A client of the application, with the application's parts."""

    http: httpx.AsyncClient
    store: MemoryStore
    progress_hub: ObservedProgressHub
    applier: Applier
    bus: InProcessBus
    missing: dict[str, str]
    """The parts that are not ready, each with its reason."""

    async def create(self, mode: str = "standard", **more: object) -> UUID:
        """Create a task of user 1 on the dataset "rows"."""
        answer = await self.http.post(f"/api/tasks/{mode}", json={**STANDARD, **more})
        assert answer.status_code == 201, answer.text
        return UUID(answer.json()["taskId"])

    async def apply_event(self, event: MachineEvent) -> None:
        """Apply an event of a worker."""
        await self.applier.submit(event, actor="worker-1")


@asynccontextmanager
async def serving(
    objects: ObjectStore, limits: Limits | None = None, *, check_program: str | None = CHECK_PROGRAM
) -> AsyncIterator[Gateway]:
    """A gateway on the object store `objects`; all its other parts are new."""
    settings, bus, missing = Settings(), InProcessBus(), dict[str, str]()
    store = MemoryStore(settings.ttl)
    relay = Relay(store, bus)
    applier, progress_hub = Applier(store, relay, batch_size=8), ObservedProgressHub()
    applier.on_change(progress_hub.on_change)
    submissions = Submissions(store, applier, settings)

    async def readiness() -> dict[str, str]:
        return missing

    parts = GatewayParts(
        store,
        submissions,
        objects,
        progress_hub,
        Gauges(CollectorRegistry(), store, bus).scrape,
        RowChecks(store, objects, settings, check_program),
        readiness,
        capacity=Capacity(limits or Limits(upload=UPLOAD_LIMIT)),
    )
    transport = httpx.ASGITransport(build_app(parts), raise_app_exceptions=False)
    await bus.start()
    await store.add_dataset(await _rows(store))
    loops = (relay, applier, submissions)
    for loop in loops:
        loop.start()
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as http:
        yield Gateway(http, store, progress_hub, applier, bus, missing)
    for loop in reversed(loops):
        await loop.stop()
    await bus.close()


@pytest_asyncio.fixture
async def gateway() -> AsyncIterator[Gateway]:
    """A gateway whose object store does not answer."""
    objects = ObjectStore(Settings(s3_endpoint="http://127.0.0.1:9"))
    async with serving(objects) as served:
        yield served
    await objects.close()


@pytest_asyncio.fixture
async def storing_gateway(objects: ObjectStore) -> AsyncIterator[Gateway]:
    """A gateway on a real S3 server."""
    async with serving(objects) as served:
        yield served


def fields(answer: httpx.Response) -> list[str]:
    """The fields that a problem names; asserts that the answer is a problem."""
    assert answer.headers["content-type"] == "application/problem+json", answer.text
    body: dict[str, Any] = answer.json()
    assert body["status"] == answer.status_code
    assert body["instance"] == cut(answer.request.url.path, MAX_PATH)
    return [error["field"] for error in body["errors"]]


async def _rows(store: MemoryStore) -> Dataset:
    return Dataset(
        dataset_id="rows",
        name="rows",
        storage_path="datasets/1/rows",
        file_size=10,
        sample_count=None,
        dataset_type="training",
        domain=None,
        user_id=1,
        is_optimized=False,
        source_dataset_id=None,
        created_at=await store.now(),
    )


__all__ = ["CONTINUOUS", "STANDARD", "Gateway", "fields", "gateway", "serving", "storing_gateway"]
