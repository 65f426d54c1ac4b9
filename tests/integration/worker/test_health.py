"""The health file of a worker host is fresh if and only if the host consumes or works and control answers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from contracts.tasks import Phase
from infra.bus.rabbitmq import RabbitMQBus
from infra.objects import ObjectStore
from infra.settings import Settings
from infra.worker import fitness, health
from infra.worker.disk import Disks
from infra.worker.folders import WorkerFolder
from infra.worker.host import WorkerHost
from tests import servers
from tests.eventually import eventually
from tests.fake_control import FakeControl, Script
from tests.integration.worker.conftest import Running


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "INTERVAL", 0.01)
    monkeypatch.setattr(fitness, "CHECK_INTERVAL", 0.02)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "healthy"


@pytest.fixture
def settings(worker_settings: Settings, path: Path) -> Settings:
    return worker_settings.model_copy(update={"health_file": path})


@pytest.fixture
async def host(running: Running, settings: Settings) -> AsyncIterator[WorkerHost]:
    async with running(settings) as host:
        yield host


def is_there(path: Path) -> bool:
    return path.exists()


def was_there(path: Path) -> bool:
    """Whether the file was there; it is gone then."""
    was = path.exists()
    path.unlink(missing_ok=True)
    return was


async def until_fresh(path: Path) -> None:
    """Wait until the file is written, from now on."""
    was_there(path)

    async def written() -> bool:
        return is_there(path)

    await eventually(written, "the health file")


async def until_stale(path: Path) -> None:
    """Wait until the file, which is removed again and again, does not come back for some of its intervals."""
    absences = 0

    async def stays_away() -> bool:
        nonlocal absences
        absences = 0 if was_there(path) else absences + 1
        return absences >= 5

    await eventually(stays_away, "the health file to be written no more")


@pytest.mark.usefixtures("host")
async def test_a_worker_that_consumes_is_healthy(path: Path) -> None:
    await until_fresh(path)


@pytest.mark.usefixtures("host")
async def test_a_worker_whose_only_slot_has_a_long_job_is_healthy(
    control: FakeControl, script: Script, path: Path
) -> None:
    await control.order(script.command("wait_for_stop"))
    await control.until(lambda: control.beats)
    await until_fresh(path)


@pytest.mark.usefixtures("host")
async def test_a_worker_is_unhealthy_while_control_does_not_answer(control: FakeControl, path: Path) -> None:
    await until_fresh(path)
    control.unanswered = 10**6
    await until_stale(path)
    control.unanswered = 0
    await until_fresh(path)


@pytest.mark.usefixtures("host")
async def test_a_busy_worker_is_unhealthy_while_control_does_not_answer(
    control: FakeControl, script: Script, path: Path
) -> None:
    await control.order(script.command("wait_for_stop"))
    await control.until(lambda: control.beats)
    control.unanswered = 10**6
    await until_stale(path)


@pytest.mark.usefixtures("host")
async def test_a_worker_whose_machine_is_unfit_is_unhealthy(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Disks, "problem", lambda self, *, was_full=False: "has 5 MiB free in /work, needs 1 GiB")
    await until_stale(path)
    monkeypatch.setattr(Disks, "problem", lambda self, *, was_full=False: None)
    await until_fresh(path)


async def test_an_unfit_worker_is_healthy_while_its_attempt_goes_on(
    control: FakeControl,
    script: Script,
    running: Running,
    settings: Settings,
    path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with running(settings.model_copy(update={"worker_slots": 2})) as host:
        await control.order(script.command("wait_for_stop"))
        await control.until(lambda: control.beats)
        monkeypatch.setattr(Disks, "problem", lambda self, *, was_full=False: "has 5 MiB free in /work, needs 1 GiB")
        await control.until(lambda: control.requests[-1].worker.unfit)
        assert not host.ready
        await until_fresh(path)


async def test_a_worker_is_not_healthy_before_control_has_answered(
    control: FakeControl, running: Running, settings: Settings, path: Path
) -> None:
    control.unanswered = 10**6
    async with running(settings):
        await control.until(lambda: len(control.requests) >= 3)
        assert not is_there(path)


async def test_a_stopped_worker_leaves_no_file(running: Running, settings: Settings, path: Path) -> None:
    async with running(settings):
        await until_fresh(path)
    assert not is_there(path)


async def test_without_a_setting_the_file_is_in_the_workers_folder(running: Running, worker_settings: Settings) -> None:
    async with running(worker_settings):
        await until_fresh(WorkerFolder.of(worker_settings, Phase.TRAIN, "w").path / "healthy")


async def test_a_worker_is_unhealthy_while_the_broker_is_away(
    bus_url: str, rabbitmq: servers.Broker, script: Script, objects: ObjectStore, settings: Settings, path: Path
) -> None:
    if rabbitmq.node is None:
        servers.missing("the tests cannot restart a broker that was given by its address")
        return
    buses = RabbitMQBus(bus_url), RabbitMQBus(bus_url)
    for bus in buses:
        await bus.start()
    await FakeControl(buses[0]).start()
    host = WorkerHost(script.worker, buses[1], objects, settings)
    await host.start()
    await until_fresh(path)
    await rabbitmq.node.stop_app()
    await until_stale(path)
    await rabbitmq.node.start_app()
    await until_fresh(path)
    await host.stop()
    for bus in buses:
        await bus.close()
