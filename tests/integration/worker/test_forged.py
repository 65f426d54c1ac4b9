"""Whoever can publish can forge signals and commands: they neither stop a worker nor make it leave its places."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from pydantic import BaseModel

from contracts.commands import TrainModel
from contracts.events import PhaseFailed
from contracts.leases import LeaseAnswer, LeaseRequest, LeaseVerdict
from contracts.tasks import DatasetRef, FailureKind, ModelSource, Phase
from contracts.wire import encode
from infra.bus.dead_letter import REASON
from infra.models.model_inputs import ModelLocation
from infra.objects import ObjectStore
from infra.settings import Settings
from infra.worker.host import WorkerHost
from infra.worker.lease_client import MIN_HEARTBEAT_INTERVAL
from infra.worker.plan import PhaseWorker, Plan
from tests.fake_control import FakeControl, Script, job_of
from tests.integration.worker.conftest import Running

LONG = 300.0
"""Seconds of a lease that is not renewed during a test, unless a signal arrives."""
FORGED = [LeaseVerdict.FENCED, LeaseVerdict.CANCELLED, LeaseVerdict.PAUSE, LeaseVerdict.GRANTED]


@pytest.fixture
async def patient(control: FakeControl, running: Running, worker_settings: Settings) -> AsyncIterator[WorkerHost]:
    """A worker that sends a heartbeat by itself only after minutes."""
    control.ttl = LONG
    async with running(worker_settings.model_copy(update={"train_ttl": LONG})) as host:
        await control.until(lambda: control.requests)
        yield host


async def waiting(control: FakeControl, script: Script, action: Any = "wait_for_go") -> TrainModel:
    """A command whose program runs."""
    command = script.command(action)
    await control.order(command)
    await control.until(lambda: any(step.stage == "waiting" for step in control.progress))
    return command


@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize("verdict", FORGED)
async def test_an_attempt_goes_on_after_a_signal_that_control_does_not_confirm(
    control: FakeControl, script: Script, worker_settings: Settings, verdict: LeaseVerdict
) -> None:
    command = await waiting(control, script)
    await control.forge_signal(command, verdict)
    await control.until(lambda: control.beats)
    (job_of(worker_settings, command) / "go").touch()
    await control.until(lambda: control.events)
    assert [event.kind for event in control.events] == ["model_trained"]


@pytest.mark.usefixtures("host")
async def test_an_attempt_starts_after_a_signal_during_its_claim_that_control_does_not_confirm(
    control: FakeControl, script: Script
) -> None:
    control.unanswered = 1_000_000
    command = script.command("write")
    await control.order(command)
    await control.until(lambda: control.claims)
    await control.forge_signal(command, LeaseVerdict.CANCELLED)
    await control.until(lambda: len(control.claims) >= 3)
    control.unanswered = 0
    await control.until(lambda: control.events)
    assert [event.kind for event in control.events] == ["model_trained"]


@pytest.mark.usefixtures("host")
async def test_a_signal_during_a_claim_is_not_missed_if_the_answer_is_older(
    control: FakeControl, script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = script.command("write")
    answers = control._answers

    def cancelled_after_the_first_answer(request: LeaseRequest) -> tuple[LeaseAnswer, ...]:
        answered = answers(request)
        if request.claims and control.unanswered == 0:
            control.verdicts[command.key] = LeaseVerdict.CANCELLED
        return answered

    monkeypatch.setattr(control, "_answers", cancelled_after_the_first_answer)
    control.unanswered = 1_000_000
    await control.order(command)
    await control.until(lambda: control.claims)
    await control.forge_signal(command, LeaseVerdict.CANCELLED)
    await control.until(lambda: len(control.claims) >= 3)
    control.unanswered = 0
    await control.until(lambda: command.key in control.verdicts)
    await control.order(script.command("write"))
    await control.until(lambda: control.events)
    assert command.key not in {planned.key for planned in script.planned}


@pytest.mark.usefixtures("patient")
async def test_a_cancel_is_confirmed_at_once(control: FakeControl, script: Script, worker_settings: Settings) -> None:
    command = await waiting(control, script)
    sent = time.monotonic()
    await control.signal(command, LeaseVerdict.CANCELLED)
    await control.until(lambda: control.beats)
    assert time.monotonic() - sent < 1.0
    await control.order(script.command("write"))
    await control.until(lambda: control.events)
    assert [event.kind for event in control.events] == ["model_trained"]


@pytest.mark.usefixtures("patient")
async def test_many_forged_signals_are_few_heartbeats(control: FakeControl, script: Script) -> None:
    command = await waiting(control, script)
    began = time.monotonic()
    for _ in range(300):
        await control.forge_signal(command, LeaseVerdict.FENCED)
    await control.until(lambda: len(control.beats) >= 2)
    allowed = 2 + (time.monotonic() - began) / MIN_HEARTBEAT_INTERVAL
    assert len(control.beats) <= allowed


@pytest.mark.usefixtures("patient")
async def test_a_signal_about_another_attempt_asks_nothing(control: FakeControl, script: Script) -> None:
    command = await waiting(control, script)
    await control.forge_signal(script.command(), LeaseVerdict.FENCED)
    await control.signal(command, LeaseVerdict.CANCELLED)
    await control.until(lambda: control.beats)
    await control.order(script.command("write"))
    await control.until(lambda: control.events)
    assert len(control.beats) == 1


@pytest.mark.usefixtures("host")
@pytest.mark.parametrize(
    "forged",
    [
        {"output": "../../escaped"},
        {"output": "models/of-another"},
        {"dataset": DatasetRef(dataset_id="d", prefix="datasets/2/secret")},
        {"model": ModelSource(base="artifact:../../etc")},
    ],
    ids=["a path out", "another place", "another user's dataset", "a model out"],
)
async def test_a_command_for_another_place_is_not_run_and_writes_nothing(
    control: FakeControl, script: Script, objects: ObjectStore, forged: dict[str, Any]
) -> None:
    before = await objects.names("")
    command = script.command("write")
    await control.publish(encode(command.model_copy(update=forged)))
    await control.until(lambda: control.dead and control.events)
    event = control.events[0]
    assert isinstance(event, PhaseFailed)
    assert event.failure is FailureKind.DEAD_LETTERED
    (field,) = forged
    assert field in control.dead[0].headers[REASON]
    assert (script.planned, await objects.names("")) == ([], before)


@pytest.mark.usefixtures("host")
async def test_an_impossible_checkpoint_costs_steps_only(control: FakeControl, script: Script) -> None:
    command = script.command("write").model_copy(update={"resume_from": "models/../../etc"})
    await control.order(command)
    await control.until(lambda: control.events)
    assert control.events[0].kind == "model_trained"
    assert [planned.resume_from for planned in script.planned] == [None]


class SpecWithModel(BaseModel):
    """The spec of the scripted program, with a model."""

    actions: tuple[str, ...] = ("wait_for_go",)
    model: ModelLocation


@pytest.mark.parametrize("allowed", [True, False])
@pytest.mark.parametrize("kind", ["hub", "path", "artifact"])
async def test_the_setting_of_the_worker_decides_whether_code_of_the_hub_may_run(
    control: FakeControl, script: Script, objects: ObjectStore, worker_settings: Settings, kind: str, allowed: bool
) -> None:
    spec = SpecWithModel(model=ModelLocation(kind=kind, name="org/name"))
    worker = PhaseWorker(
        Phase.TRAIN, TrainModel, lambda _: Plan("tests.programs.scripted", spec), script.worker.conclude
    )
    settings = worker_settings.model_copy(update={"allow_remote_code": allowed})
    host = WorkerHost(worker, control.bus, objects, settings)
    await host.start()
    try:
        command = await waiting(control, script)
        text = await asyncio.to_thread((job_of(settings, command) / "spec.json").read_text)
    finally:
        await host.stop()
    written = SpecWithModel.model_validate_json(text)
    assert written.model.trust_remote_code is (allowed and kind == "hub")
