"""A worker whose program is a coroutine of its own process."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from contracts.commands import TrainModel
from contracts.events import ModelTrained, PhaseFailed, WorkerEvent
from contracts.tasks import FailureKind, Phase
from infra.objects import ObjectStore
from infra.settings import Settings
from infra.worker.attempt import Attempt
from infra.worker.host import WorkerHost
from infra.worker.plan import CoroutineWorker
from tests.fake_control import FakeControl, Script


class Room:
    """Trains nothing, in no time, or breaks."""

    broken = False

    async def work(self, attempt: Attempt, worker_id: str) -> WorkerEvent:
        if self.broken:
            raise RuntimeError("the room is on fire")
        command = attempt.command
        assert isinstance(command, TrainModel)
        return ModelTrained(
            key=attempt.key, claim_id=attempt.claim_id, worker_id=worker_id, model=command.model, steps=0
        )


@pytest.fixture
def room() -> Room:
    return Room()


@pytest.fixture
async def in_process(
    room: Room, control: FakeControl, objects: ObjectStore, worker_settings: Settings
) -> AsyncIterator[WorkerHost]:
    worker = CoroutineWorker(phase=Phase.TRAIN, command=TrainModel, work=room.work)
    host = WorkerHost(worker, control.bus, objects, worker_settings)
    await host.start()
    yield host
    await host.stop()


@pytest.mark.usefixtures("in_process")
async def test_an_in_process_program_reports_its_event_under_its_claim(control: FakeControl, script: Script) -> None:
    command = script.command("write")
    await control.order(command)
    await control.until(lambda: control.events)
    assert isinstance(control.events[0], ModelTrained)
    assert (control.events[0].key, control.events[0].claim_id) == (command.key, control.claims[0].claim_id)


@pytest.mark.usefixtures("in_process")
async def test_a_fault_in_an_in_process_program_fails_its_attempt_only(
    control: FakeControl, script: Script, room: Room
) -> None:
    room.broken = True
    await control.order(script.command("write"))
    await control.until(lambda: control.events)
    room.broken = False
    await control.order(script.command("write"))
    await control.until(lambda: len(control.events) == 2)
    failed, trained = control.events
    assert isinstance(failed, PhaseFailed)
    assert (failed.failure, failed.message) == (FailureKind.PROGRAM_CRASHED, "RuntimeError: the room is on fire")
    assert isinstance(trained, ModelTrained)
