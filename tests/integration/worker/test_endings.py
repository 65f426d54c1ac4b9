"""What ends an attempt early, and what the next start of a worker does with its result and its spool."""

import asyncio
import json
from pathlib import Path

import psutil
import pytest
from structlog.testing import capture_logs

from contracts.events import ModelTrained, PhasePaused
from contracts.leases import LeaseVerdict
from contracts.tasks import Phase
from infra.objects import ObjectStore
from infra.settings import Settings
from infra.worker.folders import WorkerFolder
from tests.eventually import eventually
from tests.fake_control import FakeControl, Script, job_of
from tests.integration.worker.conftest import Running


async def spooled(script: Script, settings: Settings) -> ModelTrained:
    """Write an event to the spool of a worker with these settings, as if the worker had been killed."""
    command = script.command()
    event = ModelTrained(
        key=command.key, claim_id=command.key.derive("claim"), worker_id="w", model=command.model, steps=1
    )
    folder = WorkerFolder.of(settings, Phase.TRAIN, str(settings.worker_id))
    folder.jobs.mkdir(parents=True)
    (folder.path / "lock").touch()
    folder.spool.keep(event, {})
    folder.spool.close()
    return event


@pytest.mark.usefixtures("host")
@pytest.mark.parametrize("verdict", [LeaseVerdict.CANCELLED, LeaseVerdict.FENCED])
async def test_a_signal_of_control_ends_the_whole_process_group_and_nothing_is_published(
    control: FakeControl, script: Script, worker_settings: Settings, verdict: LeaseVerdict
) -> None:
    command = script.command("grandchild", "ignore_stop")
    await control.order(command)
    await control.until(lambda: any(step.stage == "ignoring" for step in control.progress))
    grandchild = psutil.Process(int((job_of(worker_settings, command) / "grandchild").read_text()))
    await control.signal(command, verdict)
    await asyncio.to_thread(grandchild.wait, 5)
    await control.order(script.command("write"))
    await control.until(lambda: control.events)
    assert control.events[0].kind == "model_trained"


@pytest.mark.usefixtures("host")
async def test_the_answer_to_a_heartbeat_ends_an_attempt_whose_signal_was_lost(
    control: FakeControl, script: Script
) -> None:
    await control.order(script.command("wait_for_stop"))
    await control.until(lambda: any(step.stage == "waiting" for step in control.progress))
    control.heartbeat_verdict = LeaseVerdict.CANCELLED
    beats = len(control.beats)
    await control.until(lambda: len(control.beats) > beats)
    control.heartbeat_verdict = LeaseVerdict.GRANTED
    await control.order(script.command("write"))
    await control.until(lambda: control.events)
    assert [event.kind for event in control.events] == ["model_trained"]


@pytest.mark.usefixtures("host")
async def test_a_paused_attempt_ends_with_its_newest_complete_checkpoint(
    control: FakeControl, script: Script, objects: ObjectStore
) -> None:
    command = script.command("checkpoint")
    await control.order(command)
    await control.until(lambda: any(step.stage == "waiting" for step in control.progress))
    await control.signal(command, LeaseVerdict.PAUSE)
    await control.until(lambda: control.events)
    event = control.events[0]
    assert isinstance(event, PhasePaused)
    assert event.checkpoint == f"{command.output}/checkpoint-7"
    assert json.loads(await objects.get(f"{event.checkpoint}/state.json")) == {"step": 7}


async def test_a_stopping_host_pauses_its_attempts(
    control: FakeControl, script: Script, running: Running, worker_settings: Settings
) -> None:
    async with running(worker_settings):
        await control.order(script.command("wait_for_stop"))
        await control.until(lambda: any(step.stage == "waiting" for step in control.progress))
    await control.until(lambda: control.events)
    assert [event.kind for event in control.events] == ["phase_paused"]


async def test_a_host_that_stops_while_its_claim_is_answered_pauses_the_attempt(
    control: FakeControl, script: Script, running: Running, worker_settings: Settings
) -> None:
    async with running(worker_settings):
        await control.order(script.command("wait_for_stop"))
        await control.until(lambda: control.claims)
    await control.until(lambda: control.events)
    assert (control.events[0].kind, control.events[0].claim_id) == (
        "phase_paused",
        control.claims[0].claim_id,
    )
    assert await control.waiting() == 0


async def test_a_complete_result_is_adopted_with_the_new_claim(
    control: FakeControl, script: Script, running: Running, worker_settings: Settings
) -> None:
    command = script.command("write")
    async with running(worker_settings):
        await control.order(command)
        await control.until(lambda: len(control.events) == 1)
        await control.order(command)
        await control.until(lambda: len(control.events) == 2)
    first, second = control.events
    assert second.claim_id == control.claims[1].claim_id != first.claim_id
    assert second.model_copy(update={"claim_id": first.claim_id}) == first


async def test_an_event_that_was_not_confirmed_is_sent_at_the_next_start(
    control: FakeControl, script: Script, running: Running, worker_settings: Settings
) -> None:
    event = await spooled(script, worker_settings)
    async with running(worker_settings):
        await control.until(lambda: control.events)
    assert control.events == [event]


async def test_the_spool_of_a_dead_worker_is_sent_by_another(
    control: FakeControl, script: Script, running: Running, worker_settings: Settings
) -> None:
    dead = worker_settings.model_copy(update={"worker_id": "dead"})
    event = await spooled(script, dead)
    async with running(worker_settings):
        await control.until(lambda: control.events)
        await control.order(script.command("write"))
        await control.until(lambda: len(control.events) == 2)
    assert control.events[0] == event
    assert not WorkerFolder.of(dead, Phase.TRAIN, "dead").path.exists()


async def test_the_spool_of_a_dead_worker_that_cannot_be_read_is_kept_for_a_later_start(
    control: FakeControl, script: Script, running: Running, worker_settings: Settings
) -> None:
    dead = worker_settings.model_copy(update={"worker_id": "dead"})
    event = await spooled(script, dead)
    folder = WorkerFolder.of(dead, Phase.TRAIN, "dead").path
    (folder / "spool.db").rename(folder / "away")
    (folder / "spool.db").mkdir()
    with capture_logs() as logs:
        async with running(worker_settings):
            await control.order(script.command("write"))
            await control.until(lambda: control.events)
    assert "spool_not_read" in [line["event"] for line in logs]
    (folder / "spool.db").rmdir()
    (folder / "away").rename(folder / "spool.db")
    async with running(worker_settings):
        await control.until(lambda: event in control.events)


async def test_a_damaged_spool_of_a_dead_worker_is_kept_by_the_worker_that_takes_its_folder(
    control: FakeControl, script: Script, running: Running, worker_settings: Settings
) -> None:
    dead = worker_settings.model_copy(update={"worker_id": "dead"})
    await spooled(script, dead)
    folder = WorkerFolder.of(dead, Phase.TRAIN, "dead").path
    (folder / "spool.db").write_bytes(b"this is no database" * 100)
    async with running(worker_settings):
        await eventually(lambda: is_deleted(folder), "the dead worker's folder to be taken")
    own_folder = WorkerFolder.of(worker_settings, Phase.TRAIN, str(worker_settings.worker_id)).path
    assert (own_folder / "dead-spool.damaged").read_bytes().startswith(b"this is no database")


async def is_deleted(folder: Path) -> bool:
    return not await asyncio.to_thread(folder.exists)
