"""Fixtures of a worker host on the in-process bus, with a fake control and a real object store."""

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
def _children_import_the_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let child processes import the tests, because they import only installed modules and what is in PYTHONPATH."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))


@pytest.fixture
async def control() -> AsyncIterator[FakeControl]:
    """A fake control that grants every claim, on a bus of its own."""
    bus = InProcessBus()
    await bus.start()
    control = FakeControl(bus)
    await control.start()
    yield control
    await bus.close()


@pytest.fixture
def script() -> Script:
    """The worker of the train phase, whose programs do the actions that a test gives."""
    return Script()


@pytest.fixture
def worker_settings(store_settings: Settings) -> Settings:
    """Settings of a worker named "w" with one slot and short timeouts."""
    more = {"worker_id": "w", "fork_programs": False, "stop_grace": 1.0, "train_ttl": 0.9}
    return store_settings.model_copy(update=more)


@pytest.fixture
def running(control: FakeControl, script: Script, objects: ObjectStore) -> Running:
    """Runs a worker host with the given settings during a `with` block."""

    @asynccontextmanager
    async def run_host(settings: Settings) -> AsyncIterator[WorkerHost]:
        host = WorkerHost(script.worker, control.bus, objects, settings)
        await host.start()
        try:
            yield host
        finally:
            await host.stop()

    return run_host


@pytest.fixture
async def host(running: Running, worker_settings: Settings) -> AsyncIterator[WorkerHost]:
    """A running worker host."""
    async with running(worker_settings) as host:
        yield host


__all__ = ["control", "host", "objects", "running", "script", "store_settings", "worker_settings"]
