"""The spool beside the broker: an event is on the disk before it is published, and until it is confirmed."""

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
from contracts.leases import Verdict
from contracts.tasks import Phase
from contracts.topology import EVENTS
from contracts.wire import decode
from infra.bus.inprocess import InProcessBus
from infra.bus.port import Outgoing, PublishFailed
from infra.objects import ObjectStore
from infra.settings import Settings
from infra.worker import host as host_module
from infra.worker.folders import WorkerFolder
from infra.worker.host import WorkerHost
from infra.worker.spool import Spool, Spooled
from tests.eventually import eventually
from tests.fake_control import FakeControl, Script

Life = Callable[[], AbstractAsyncContextManager[WorkerHost]]


class Forgetful(InProcessBus):
    """A bus that confirms no event while it is `away`."""

    away = True

    async def publish(self, message: Outgoing) -> None:
        if self.away and message.exchange == EVENTS.name:
            raise PublishFailed("the broker is away")
        await super().publish(message)


@pytest.fixture
async def bus(control: FakeControl) -> AsyncIterator[Forgetful]:
    """The worker's connection to the broker of control."""
    assert isinstance(control.bus, InProcessBus)
    bus = Forgetful(control.bus._broker)
    await bus.start()
    yield bus
    await bus.close()


@pytest.fixture
def life(bus: Forgetful, script: Script, objects: ObjectStore, worker_settings: Settings) -> Life:
    """One life of the worker on that connection, which does not wait long for a broker when it ends."""

    @asynccontextmanager
    async def live() -> AsyncIterator[WorkerHost]:
        host = WorkerHost(script.worker, bus, objects, worker_settings)
        await host.start()
        yield host
        await host.stop()

    return live


@pytest.fixture(autouse=True)
def _short_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host_module, "PUBLISHING_GRACE", -0.9)


@pytest.fixture
def path(worker_settings: Settings) -> Path:
    """The worker's spool."""
    return WorkerFolder.of(worker_settings, Phase.TRAIN, "w").path / "spool.db"


def in_spool(path: Path) -> list[Spooled]:
    """What another life of the worker would find."""
    spool = Spool(path)
    found = spool.entries()
    spool.close()
    return found


async def kept(path: Path) -> UUID:
    """The key's task of the one event in the spool, once there is one."""

    async def found() -> list[Spooled]:
        return in_spool(path)

    (spooled,) = await eventually(found, "an event in the spool")
    return decode(spooled.message.body, *get_args(WorkerEvent)).key.task_id


async def test_an_event_is_on_the_disk_when_it_is_published(
    control: FakeControl, script: Script, bus: Forgetful, life: Life, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bus.away = False
    on_disk: list[int] = []
    publish = bus.publish

    async def look_and_publish(message: Outgoing) -> None:
        if message.exchange == EVENTS.name:
            on_disk.append(len(in_spool(path)))
        await publish(message)

    monkeypatch.setattr(bus, "publish", look_and_publish)
    async with life():
        await control.order(script.command("write"))
        await control.until(lambda: control.events)
    assert (on_disk, in_spool(path)) == ([1], [])


async def test_what_is_not_confirmed_is_on_the_disk_until_it_is(
    control: FakeControl, script: Script, bus: Forgetful, life: Life, path: Path
) -> None:
    command = script.command("write")
    async with life():
        await control.order(command)
        assert await kept(path) == command.key.task_id
        bus.away = False
        await control.until(lambda: control.events)
    assert in_spool(path) == []


async def test_what_a_life_could_not_publish_the_next_one_does(
    control: FakeControl, script: Script, bus: Forgetful, life: Life, path: Path
) -> None:
    command = script.command("write")
    async with life():
        await control.order(command)
        await kept(path)
    assert control.events == []
    bus.away = False
    async with life():
        await control.until(lambda: control.events)
    assert [event.key for event in control.events] == [command.key]


async def test_a_disk_that_refuses_holds_up_no_event(
    control: FakeControl, script: Script, bus: Forgetful, life: Life, path: Path
) -> None:
    async with life():
        os.makedirs(path, mode=0o700)  # no file can be there
        with capture_logs() as logs:
            await control.order(script.command("write"))

            async def refused() -> bool:
                return any(line["event"] == "event_not_spooled" for line in logs)

            await eventually(refused, "the disk to refuse")
        bus.away = False
        await control.until(lambda: control.events)
    assert [event.kind for event in control.events] == ["model_trained"]


@pytest.mark.parametrize("verdict", [Verdict.CANCELLED, Verdict.FENCED])
async def test_what_control_wants_no_more_leaves_the_spool_unpublished(
    control: FakeControl, script: Script, bus: Forgetful, life: Life, path: Path, verdict: Verdict
) -> None:
    unwanted, other = script.command("write"), script.command("write")
    async with life():
        await control.order(unwanted)
        await kept(path)
        await control.signal(unwanted, verdict)
        await eventually(partial(_is_empty, path), "the spool to be empty")
        bus.away = False
        await control.order(other)
        await control.until(lambda: control.events)
    assert [event.key for event in control.events] == [other.key]


async def _is_empty(path: Path) -> bool:
    return not in_spool(path)
