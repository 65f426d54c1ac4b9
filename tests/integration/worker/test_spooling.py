"""The spool: an event is on the disk before it is published, and until the broker has confirmed it."""

import os
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import get_args
from uuid import UUID

import pytest
from structlog.testing import capture_logs

from contracts.events import WorkerEvent
from contracts.leases import LeaseVerdict
from contracts.tasks import Phase
from contracts.topology import EVENTS
from contracts.wire import decode
from infra.bus.inprocess import InProcessBus
from infra.bus.port import OutgoingMessage, PublishFailed
from infra.objects import ObjectStore
from infra.settings import Settings
from infra.worker import host as host_module
from infra.worker.folders import WorkerFolder
from infra.worker.host import WorkerHost
from infra.worker.spool import Spool, Spooled
from tests.eventually import eventually
from tests.fake_control import FakeControl, Script

StartWorker = Callable[[], AbstractAsyncContextManager[WorkerHost]]


class UnconfirmingBus(InProcessBus):
    """A bus that confirms no event while it is `away`."""

    away = True

    async def publish(self, message: OutgoingMessage) -> None:
        if self.away and message.exchange == EVENTS.name:
            raise PublishFailed("the broker is away")
        await super().publish(message)


@pytest.fixture
async def bus(control: FakeControl) -> AsyncIterator[UnconfirmingBus]:
    """A bus of the worker, on the broker of control's bus."""
    assert isinstance(control.bus, InProcessBus)
    bus = UnconfirmingBus(control.bus._broker)
    await bus.start()
    yield bus
    await bus.close()


@pytest.fixture
def start_worker(bus: UnconfirmingBus, script: Script, objects: ObjectStore, worker_settings: Settings) -> StartWorker:
    """Runs the worker on this bus during a `with` block; at its end it does not wait for the broker."""

    @asynccontextmanager
    async def run_worker() -> AsyncIterator[WorkerHost]:
        host = WorkerHost(script.worker, bus, objects, worker_settings)
        await host.start()
        yield host
        await host.stop()

    return run_worker


@pytest.fixture(autouse=True)
def _no_publishing_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host_module, "PUBLISHING_GRACE", -0.9)


@pytest.fixture
def path(worker_settings: Settings) -> Path:
    """The path of the worker's spool."""
    return WorkerFolder.of(worker_settings, Phase.TRAIN, "w").path / "spool.db"


def spool_entries(path: Path) -> list[Spooled]:
    """The entries of the spool, as the next start of the worker reads them."""
    spool = Spool(path)
    entries = spool.entries()
    spool.close()
    return entries


async def spooled_task(path: Path) -> UUID:
    """Wait for an event in the spool and return the id of its task."""

    async def entries() -> list[Spooled]:
        return spool_entries(path)

    (spooled,) = await eventually(entries, "an event in the spool")
    return decode(spooled.message.body, *get_args(WorkerEvent)).key.task_id


async def test_an_event_is_on_the_disk_when_it_is_published(
    control: FakeControl,
    script: Script,
    bus: UnconfirmingBus,
    start_worker: StartWorker,
    path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bus.away = False
    on_disk: list[int] = []
    publish = bus.publish

    async def count_and_publish(message: OutgoingMessage) -> None:
        if message.exchange == EVENTS.name:
            on_disk.append(len(spool_entries(path)))
        await publish(message)

    monkeypatch.setattr(bus, "publish", count_and_publish)
    async with start_worker():
        await control.order(script.command("write"))
        await control.until(lambda: control.events)
    assert (on_disk, spool_entries(path)) == ([1], [])


async def test_an_event_stays_on_the_disk_until_it_is_confirmed(
    control: FakeControl, script: Script, bus: UnconfirmingBus, start_worker: StartWorker, path: Path
) -> None:
    command = script.command("write")
    async with start_worker():
        await control.order(command)
        assert await spooled_task(path) == command.key.task_id
        bus.away = False
        await control.until(lambda: control.events)
    assert spool_entries(path) == []


async def test_an_event_that_could_not_be_published_is_published_after_the_next_start(
    control: FakeControl, script: Script, bus: UnconfirmingBus, start_worker: StartWorker, path: Path
) -> None:
    command = script.command("write")
    async with start_worker():
        await control.order(command)
        await spooled_task(path)
    assert control.events == []
    bus.away = False
    async with start_worker():
        await control.until(lambda: control.events)
    assert [event.key for event in control.events] == [command.key]


async def test_an_event_is_published_even_if_the_disk_refuses_it(
    control: FakeControl, script: Script, bus: UnconfirmingBus, start_worker: StartWorker, path: Path
) -> None:
    async with start_worker():
        os.makedirs(path, mode=0o700)  # a folder, so that no file can be created
        with capture_logs() as logs:
            await control.order(script.command("write"))

            async def refused() -> bool:
                return any(line["event"] == "event_not_spooled" for line in logs)

            await eventually(refused, "the disk to refuse")
        bus.away = False
        await control.until(lambda: control.events)
    assert [event.kind for event in control.events] == ["model_trained"]


@pytest.mark.parametrize("verdict", [LeaseVerdict.CANCELLED, LeaseVerdict.FENCED])
async def test_an_event_of_an_attempt_that_control_ended_leaves_the_spool_unpublished(
    control: FakeControl,
    script: Script,
    bus: UnconfirmingBus,
    start_worker: StartWorker,
    path: Path,
    verdict: LeaseVerdict,
) -> None:
    cancelled, other = script.command("write"), script.command("write")
    async with start_worker():
        await control.order(cancelled)
        await spooled_task(path)
        await control.signal(cancelled, verdict)
        await eventually(partial(_is_empty, path), "the spool to be empty")
        bus.away = False
        await control.order(other)
        await control.until(lambda: control.events)
    assert [event.key for event in control.events] == [other.key]


async def _is_empty(path: Path) -> bool:
    return not spool_entries(path)
