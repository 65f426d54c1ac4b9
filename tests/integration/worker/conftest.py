"""A worker host on the in-process bus, with a fake control and a real object store."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest

from infra.bus.inprocess import InProcessBus
from infra.objects import ObjectStore
from infra.settings import Settings
from infra.worker.host import WorkerHost
from tests.fake_control import FakeControl, Script
from tests.object_store import objects, store_settings

ROOT = Path(__file__).parents[3]
Running = Callable[[Settings], AbstractAsyncContextManager[WorkerHost]]


@pytest.fixture(autouse=True)
def _children_find_the_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    """Children look for modules where they are installed, not in the working directory; tests are not installed."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))


@pytest.fixture
async def control() -> AsyncIterator[FakeControl]:
    """A control that grants everything, on a bus of its own."""
    bus = InProcessBus()
    await bus.start()
    control = FakeControl(bus)
    await control.start()
    yield control
    await bus.close()


@pytest.fixture
def script() -> Script:
    """The room: its programs do what the test asks for."""
    return Script()


@pytest.fixture
def worker_settings(store_settings: Settings) -> Settings:
    """A worker named "w" with one slot and a short patience."""
    more = {"worker_id": "w", "warm_children": False, "stop_grace": 1.0, "train_ttl": 0.9}
    return store_settings.model_copy(update=more)


@pytest.fixture
def running(control: FakeControl, script: Script, objects: ObjectStore) -> Running:
    """A worker host with the settings given, for the length of a `with` block."""

    @asynccontextmanager
    async def run(settings: Settings) -> AsyncIterator[WorkerHost]:
        host = WorkerHost(script.worker, control.bus, objects, settings)
        await host.start()
        try:
            yield host
        finally:
            await host.stop()

    return run


@pytest.fixture
async def host(running: Running, worker_settings: Settings) -> AsyncIterator[WorkerHost]:
    """A worker host."""
    async with running(worker_settings) as host:
        yield host


__all__ = ["control", "host", "objects", "running", "script", "store_settings", "worker_settings"]
