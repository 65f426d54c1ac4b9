"""How the checkpoints of a running program are uploaded, reported and deleted."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from contracts.artifacts import MANIFEST
from contracts.commands import TrainModel
from contracts.events import PhaseFailed
from contracts.leases import LeaseRequest, LeaseVerdict
from infra.artifacts import NO_RETRY
from infra.objects import ObjectStore, ObjectStoreUnavailable
from infra.settings import Settings
from infra.worker import checkpoints
from tests.eventually import eventually
from tests.fake_control import FakeControl, Script, job_of


@pytest.fixture(autouse=True)
def _short_check_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoints, "CHECK_INTERVAL", 0.05)


class Uploads:
    """Counts the uploads of checkpoints; all of them fail if `away` is set, and none of them ends if `stuck` is set."""

    def __init__(self, objects: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> None:
        self.away = self.stuck = False
        self.started = asyncio.Event()
        self.active = 0
        self.active_at_the_manifest: list[int] = []
        self._put, self._put_file = objects.put, objects.put_file
        monkeypatch.setattr(objects, "put", self.put)
        monkeypatch.setattr(objects, "put_file", self.put_file)

    async def put(self, key: str, data: bytes) -> None:
        if key.endswith(f"a1/{MANIFEST}"):
            self.active_at_the_manifest.append(self.active)
        await self._put(key, data)

    async def put_file(self, key: str, path: Path) -> None:
        if "/checkpoint-" in key:
            await self._checkpoint()
        await self._put_file(key, path)

    async def _checkpoint(self) -> None:
        self.started.set()
        if self.away:
            raise ObjectStoreUnavailable("the store is away")
        self.active += 1
        try:
            if self.stuck:
                await asyncio.Event().wait()
        finally:
            self.active -= 1


@pytest.fixture
async def uploads(objects: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> Uploads:
    return Uploads(objects, monkeypatch)


@pytest.mark.usefixtures("host")
async def test_the_heartbeats_of_a_running_program_name_its_newest_complete_checkpoint(
    control: FakeControl, script: Script, objects: ObjectStore
) -> None:
    command = script.command("checkpoints", "wait_for_stop")
    await control.order(command)
    await control.until(lambda: any(beat.checkpoint for beat in control.beats))
    assert control.beats[-1].checkpoint == f"{command.output}/checkpoint-7"
    assert json.loads(await objects.get(f"{command.output}/checkpoint-7/state.json")) == {"step": 7}


@pytest.mark.usefixtures("host")
async def test_a_checkpoint_older_than_the_newest_complete_one_is_never_uploaded(
    control: FakeControl, script: Script, objects: ObjectStore
) -> None:
    command = script.command("checkpoints", "wait_for_stop")
    await control.order(command)
    await control.until(lambda: any(beat.checkpoint for beat in control.beats))
    await control.signal(command, LeaseVerdict.PAUSE)
    await control.until(lambda: control.events)
    assert {name.split("/")[-2] for name in await objects.names(command.output)} == {"checkpoint-7"}


async def waiting_with_a_checkpoint(control: FakeControl, script: Script) -> TrainModel:
    """Run a job until control has received its first checkpoint; it writes another when the file `go` exists."""
    command = script.command("checkpoints", "wait_for_go", "later_checkpoint", "wait_for_stop")
    await control.order(command)
    await control.until(lambda: any(beat.checkpoint for beat in control.beats))
    return command


async def saved(objects: ObjectStore, command: TrainModel) -> set[str]:
    """The checkpoints that are complete in the store."""
    return {name.split("/")[-2] for name in await objects.names(command.output) if name.endswith(MANIFEST)}


@pytest.mark.usefixtures("host")
async def test_a_checkpoint_is_deleted_once_control_has_acknowledged_a_newer_one(
    control: FakeControl, script: Script, objects: ObjectStore, worker_settings: Settings
) -> None:
    command = await waiting_with_a_checkpoint(control, script)
    (job_of(worker_settings, command) / "go").touch()

    async def only_the_newest() -> bool:
        return await saved(objects, command) == {"checkpoint-11"}

    await eventually(only_the_newest, "the older checkpoint to be deleted")


@pytest.mark.usefixtures("host")
async def test_a_checkpoint_is_kept_while_control_has_not_acknowledged_a_newer_one(
    control: FakeControl, script: Script, objects: ObjectStore, worker_settings: Settings
) -> None:
    command = await waiting_with_a_checkpoint(control, script)
    control.unanswered = 1000
    (job_of(worker_settings, command) / "go").touch()
    await control.until(lambda: sum(_names(request, "checkpoint-11") for request in control.requests) == 2)
    assert await saved(objects, command) == {"checkpoint-7", "checkpoint-11"}


def _names(request: LeaseRequest, checkpoint: str) -> bool:
    return any((beat.checkpoint or "").endswith(checkpoint) for beat in request.heartbeats)


@pytest.mark.usefixtures("host")
async def test_a_program_that_crashes_leaves_its_newest_checkpoint(control: FakeControl, script: Script) -> None:
    command = script.command("checkpoints", "crash")
    await control.order(command)
    await control.until(lambda: control.events)
    event = control.events[0]
    assert isinstance(event, PhaseFailed)
    assert event.checkpoint == f"{command.output}/checkpoint-7"


@pytest.mark.usefixtures("host")
async def test_a_checkpoint_that_cannot_be_uploaded_neither_delays_nor_fails_the_job(
    control: FakeControl, script: Script, uploads: Uploads, worker_settings: Settings
) -> None:
    uploads.away = True
    command = script.command("checkpoints", "wait_for_go", "write")
    await control.order(command)
    await asyncio.wait_for(uploads.started.wait(), 15)
    (job_of(worker_settings, command) / "go").touch()
    await control.until(lambda: control.events)
    assert control.events[0].kind == "model_trained"


@pytest.mark.usefixtures("host")
async def test_the_upload_of_a_checkpoint_is_stopped_before_the_manifest_of_the_result_is_written(
    control: FakeControl, script: Script, uploads: Uploads, worker_settings: Settings
) -> None:
    uploads.stuck = True
    command = script.command("checkpoints", "wait_for_go", "write")
    await control.order(command)
    await asyncio.wait_for(uploads.started.wait(), 15)
    (job_of(worker_settings, command) / "go").touch()
    await control.until(lambda: control.events)
    assert uploads.active_at_the_manifest == [0]


@pytest.mark.usefixtures("host")
async def test_a_pause_succeeds_even_if_its_checkpoint_cannot_be_uploaded(
    control: FakeControl, script: Script, uploads: Uploads, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoints, "RETRY_WHILE_UNAVAILABLE", NO_RETRY)
    uploads.away = True
    command = script.command("checkpoints", "wait_for_stop")
    await control.order(command)
    await asyncio.wait_for(uploads.started.wait(), 15)
    await control.signal(command, LeaseVerdict.PAUSE)
    await control.until(lambda: control.events)
    assert control.events[0].kind == "phase_paused"
