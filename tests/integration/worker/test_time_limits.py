"""An attempt that takes too long, or makes no progress, is ended and can be tried again."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from contracts.commands import TrainModel
from contracts.events import PhaseFailed, WorkerEvent
from contracts.leases import LeaseVerdict
from contracts.tasks import FailureKind
from infra.objects import ObjectStore
from infra.worker import limits
from tests.fake_control import FakeControl, Script

pytestmark = pytest.mark.usefixtures("host")


async def ended(control: FakeControl, command: TrainModel, **fields: float) -> PhaseFailed:
    """Order the command with these limits, and return the event with which its attempt failed."""
    await control.order(command.model_copy(update=fields))
    await control.until(lambda: control.events)
    event: WorkerEvent = control.events[0]
    assert isinstance(event, PhaseFailed)
    return event


async def test_a_program_that_runs_too_long_is_ended(control: FakeControl, script: Script) -> None:
    event = await ended(control, script.command("repeating"), time_limit=1.0)
    assert event.failure is FailureKind.TIMED_OUT
    assert event.message.startswith("the attempt took longer than its limit of 1 s; its last progress was: ")
    assert "see its log with `treadle logs " in event.message


async def test_a_program_that_repeats_its_progress_is_ended(control: FakeControl, script: Script) -> None:
    event = await ended(control, script.command("repeating"), stall_limit=1.0)
    assert event.failure is FailureKind.STALLED
    assert event.seconds > 0


async def test_a_program_that_is_frozen_is_killed(control: FakeControl, script: Script) -> None:
    assert (await ended(control, script.command("frozen"), stall_limit=1.0)).failure is FailureKind.STALLED


async def test_a_program_that_ignores_the_stop_is_killed(control: FakeControl, script: Script) -> None:
    assert (await ended(control, script.command("ignore_stop"), time_limit=1.0)).failure is FailureKind.TIMED_OUT


async def test_the_newest_checkpoint_of_an_ended_attempt_is_saved(
    control: FakeControl, script: Script, objects: ObjectStore
) -> None:
    command = script.command("checkpoint")
    event = await ended(control, command, stall_limit=1.0)
    assert event.checkpoint == f"{command.output}/checkpoint-7"
    assert json.loads(await objects.get(f"{event.checkpoint}/state.json")) == {"step": 7}


async def test_a_download_that_hangs_is_ended(
    control: FakeControl, script: Script, objects: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def hang(_: str) -> bytes:
        await asyncio.sleep(3600)
        return b""

    script.inputs = {"rows": "optimized/rows"}
    monkeypatch.setattr(objects, "get", hang)
    assert (await ended(control, script.command("write"), stall_limit=1.0)).failure is FailureKind.STALLED


async def test_a_step_that_cannot_be_cancelled_does_not_hold_the_slot(
    control: FakeControl, script: Script, objects: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    released = asyncio.Event()
    get = objects.get

    async def hang(_: str) -> bytes:
        try:
            await asyncio.sleep(3600)
        finally:
            await released.wait()
        return b""

    monkeypatch.setattr(limits, "ABANDON_AFTER", 0.05)
    monkeypatch.setattr(objects, "get", hang)
    assert (await ended(control, script.command("write"), time_limit=1.0)).failure is FailureKind.TIMED_OUT
    monkeypatch.setattr(objects, "get", get)
    await control.order(script.command("write"))
    await control.until(lambda: len(control.events) == 2)
    assert control.events[1].kind == "model_trained"
    released.set()


async def test_an_upload_that_hangs_is_ended(
    control: FakeControl, script: Script, objects: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def hang(_: str, __: Path) -> None:
        await asyncio.sleep(3600)

    monkeypatch.setattr(objects, "put_file", hang)
    assert (await ended(control, script.command("write"), stall_limit=1.0)).failure is FailureKind.STALLED


async def test_an_attempt_within_its_limits_succeeds(control: FakeControl, script: Script) -> None:
    await control.order(
        script.command("progress", "write").model_copy(update={"time_limit": 60.0, "stall_limit": 30.0})
    )
    await control.until(lambda: control.events)
    assert control.events[0].kind == "model_trained"


async def test_a_program_that_reads_and_writes_much_makes_progress(control: FakeControl, script: Script) -> None:
    await control.order(script.command("busy_disk", "write").model_copy(update={"stall_limit": 1.0}))
    await control.until(lambda: control.events)
    assert control.events[0].kind == "model_trained"


async def test_a_pause_before_a_limit_is_a_pause(control: FakeControl, script: Script) -> None:
    command = script.command("ignore_stop").model_copy(update={"time_limit": 1.5})
    await control.order(command)
    await control.until(lambda: any(step.stage == "ignoring" for step in control.progress))
    await control.signal(command, LeaseVerdict.PAUSE)
    await control.until(lambda: control.events)
    assert control.events[0].kind == "phase_paused"
