"""The worker host on the in-process bus, with real children and a real object store."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import psutil
import pytest

from contracts.commands import TrainModel
from contracts.events import ModelTrained, PhaseFailed, PhasePaused
from contracts.leases import Verdict
from contracts.tasks import FailureKind
from infra.artifacts import read_manifest, upload
from infra.bus.dead import REASON
from infra.bus.inprocess import InProcessBus
from infra.objects import ObjectStore
from infra.settings import Settings
from infra.worker.host import WorkerHost
from tests.fake_control import TRACE, FakeControl, Script

Start = Callable[..., "asyncio._AsyncGeneratorContextManager[WorkerHost]"]  # type: ignore[name-defined]


@pytest.fixture
async def control() -> AsyncIterator[FakeControl]:
    bus = InProcessBus()
    await bus.start()
    control = FakeControl(bus)
    await control.start()
    yield control
    await bus.close()


@pytest.fixture
def script() -> Script:
    return Script()


@pytest.fixture
def settings(store_settings: Settings) -> Settings:
    more = {"worker_id": "w", "warm_children": False, "stop_grace": 1.0, "train_ttl": 0.9}
    return store_settings.model_copy(update=more)


@asynccontextmanager
async def running(
    control: FakeControl, script: Script, objects: ObjectStore, settings: Settings
) -> AsyncIterator[WorkerHost]:
    host = WorkerHost(script.worker, control.bus, objects, settings)
    await host.start()
    try:
        yield host
    finally:
        await host.stop()


@pytest.fixture
async def host(
    control: FakeControl, script: Script, objects: ObjectStore, settings: Settings
) -> AsyncIterator[WorkerHost]:
    async with running(control, script, objects, settings) as host:
        yield host


def job_of(settings: Settings, command: TrainModel) -> Path:
    return settings.work_dir / "train" / "w" / "jobs" / f"{command.key.task_id}-1-train-a1"


@pytest.mark.usefixtures("host")
async def test_success_is_published_once_the_manifest_holds_it(
    control: FakeControl, script: Script, objects: ObjectStore
) -> None:
    command = script.command("write")
    await control.order(command)
    await control.until(lambda: control.events)
    manifest = await read_manifest(objects, command.output)
    assert manifest is not None
    assert [file.name for file in manifest.files] == ["answer.txt"]
    assert manifest.event == control.events[0].model_dump(mode="json")


@pytest.mark.usefixtures("host")
async def test_the_event_says_what_the_program_found(control: FakeControl, script: Script) -> None:
    command = script.command("write")
    await control.order(command)
    await control.until(lambda: control.events)
    event = control.events[0]
    assert isinstance(event, ModelTrained)
    assert (event.steps, event.key, event.claim_id) == (42, command.key, control.claims[0].claim_id)


@pytest.mark.usefixtures("host")
async def test_the_inputs_lie_where_the_program_reads_them(
    control: FakeControl, script: Script, objects: ObjectStore, tmp_path: Path
) -> None:
    (tmp_path / "rows").mkdir()
    (tmp_path / "rows" / "train.jsonl").write_text("rows")
    await upload(objects, "optimized/rows", tmp_path / "rows")
    script.inputs = {"rows": "optimized/rows#train.jsonl"}
    command = script.command("copy_input")
    await control.order(command)
    await control.until(lambda: control.events)
    assert await objects.get(f"{command.output}/copy.txt") == b"rows"


@pytest.mark.usefixtures("host")
async def test_a_missing_input_is_bad_input_and_names_it(control: FakeControl, script: Script) -> None:
    script.inputs = {"rows": "optimized/missing"}
    await control.order(script.command("write"))
    await control.until(lambda: control.events)
    event = control.events[0]
    assert isinstance(event, PhaseFailed)
    assert (event.failure, event.field) == (FailureKind.BAD_INPUT, "rows")


@pytest.mark.usefixtures("host")
async def test_a_typed_failure_arrives_with_its_field(control: FakeControl, script: Script) -> None:
    await control.order(script.command("bad_input"))
    await control.until(lambda: control.events)
    event = control.events[0]
    assert isinstance(event, PhaseFailed)
    assert (event.failure, event.message, event.field) == (
        FailureKind.BAD_INPUT,
        "line 3 is no JSON",
        "data.jsonl:3",
    )


@pytest.mark.usefixtures("host")
async def test_a_child_killed_by_the_system_fails_its_attempt_and_the_next_is_run(
    control: FakeControl, script: Script
) -> None:
    await control.order(script.command("killed"))
    await control.order(script.command("write"))
    await control.until(lambda: len(control.events) == 2)
    first, second = control.events
    assert isinstance(first, PhaseFailed)
    assert first.failure is FailureKind.OUT_OF_MEMORY
    assert isinstance(second, ModelTrained)


@pytest.mark.usefixtures("host")
async def test_a_crash_keeps_its_folder_and_says_where(
    control: FakeControl, script: Script, settings: Settings
) -> None:
    command = script.command("crash")
    await control.order(command)
    await control.until(lambda: control.events)
    event = control.events[0]
    assert isinstance(event, PhaseFailed)
    assert str(job_of(settings, command)) in event.message
    assert await asyncio.to_thread((job_of(settings, command) / "log.txt").exists)


async def test_a_finished_job_leaves_no_folder(
    control: FakeControl, script: Script, objects: ObjectStore, settings: Settings
) -> None:
    command = script.command("write")
    async with running(control, script, objects, settings):
        await control.order(command)
        await control.until(lambda: control.events)
    assert not job_of(settings, command).exists()


async def test_a_fault_of_the_room_fails_the_attempt_and_not_the_host(
    control: FakeControl, script: Script, host: WorkerHost
) -> None:
    await control.order(script.command("write").model_copy(update={"key": Script().command().key}))
    await control.order(script.command("write"))
    await control.until(lambda: len(control.events) == 2)
    assert [event.kind for event in control.events] == ["phase_failed", "model_trained"]


@pytest.mark.usefixtures("host")
@pytest.mark.parametrize("verdict", [Verdict.CANCELLED, Verdict.FENCED])
async def test_a_word_from_control_ends_the_whole_group_and_nothing_is_published(
    control: FakeControl, script: Script, settings: Settings, verdict: Verdict
) -> None:
    command = script.command("grandchild", "ignore_stop")
    await control.order(command)
    await control.until(lambda: any(step.stage == "ignoring" for step in control.progress))
    grandchild = psutil.Process(int((job_of(settings, command) / "grandchild").read_text()))
    await control.signal(command, verdict)
    await asyncio.to_thread(grandchild.wait, 5)
    await control.order(script.command("write"))
    await control.until(lambda: control.events)
    assert control.events[0].kind == "model_trained"


@pytest.mark.usefixtures("host")
async def test_a_heartbeat_says_what_a_lost_signal_would_have(control: FakeControl, script: Script) -> None:
    await control.order(script.command("wait_for_stop"))
    await control.until(lambda: any(step.stage == "waiting" for step in control.progress))
    control.beat_verdict = Verdict.CANCELLED
    beats = len(control.beats)
    await control.until(lambda: len(control.beats) > beats)
    control.beat_verdict = Verdict.GRANTED
    await control.order(script.command("write"))
    await control.until(lambda: control.events)
    assert [event.kind for event in control.events] == ["model_trained"]


@pytest.mark.usefixtures("host")
async def test_heartbeats_go_on_while_the_program_runs(control: FakeControl, script: Script) -> None:
    await control.order(script.command("wait_for_stop"))
    await control.until(lambda: len(control.beats) >= 3)
    assert {beat.claim_id for beat in control.beats} == {control.claims[0].claim_id}


@pytest.mark.usefixtures("host")
async def test_a_paused_program_gives_its_attempt_back_with_its_checkpoint(
    control: FakeControl, script: Script, objects: ObjectStore
) -> None:
    command = script.command("checkpoint")
    await control.order(command)
    await control.until(lambda: any(step.stage == "waiting" for step in control.progress))
    await control.signal(command, Verdict.PAUSE)
    await control.until(lambda: control.events)
    event = control.events[0]
    assert isinstance(event, PhasePaused)
    assert event.checkpoint == f"{command.output}/checkpoint-7"
    assert json.loads(await objects.get(f"{event.checkpoint}/state.json")) == {"step": 7}


async def test_a_stopping_host_gives_its_attempts_back(
    control: FakeControl, script: Script, objects: ObjectStore, settings: Settings
) -> None:
    async with running(control, script, objects, settings):
        await control.order(script.command("wait_for_stop"))
        await control.until(lambda: any(step.stage == "waiting" for step in control.progress))
    await control.until(lambda: control.events)
    assert [event.kind for event in control.events] == ["phase_paused"]


@pytest.mark.usefixtures("host")
@pytest.mark.parametrize("verdict", [Verdict.HELD, Verdict.FENCED, Verdict.CANCELLED, Verdict.PAUSE, Verdict.UNKNOWN])
async def test_a_claim_that_is_not_granted_drops_its_delivery(
    control: FakeControl, script: Script, verdict: Verdict
) -> None:
    control.claim_verdict = verdict
    await control.order(script.command("write"))
    await control.until(lambda: control.claims)
    control.claim_verdict = Verdict.GRANTED
    await control.order(script.command("write"))
    await control.until(lambda: control.events)
    assert control.events[0].key == control.claims[-1].key
    assert await control.waiting() == 0


@pytest.mark.usefixtures("host")
async def test_a_claim_whose_reply_was_lost_is_asked_again_under_the_same_id(
    control: FakeControl, script: Script
) -> None:
    await control.until(lambda: control.requests)
    control.deaf = 2
    await control.order(script.command("write"))
    await control.until(lambda: control.events)
    assert len(control.claims) >= 2
    assert len({claim.claim_id for claim in control.claims}) == 1


@pytest.mark.usefixtures("host")
@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"not json", "not JSON"),
        (b'{"kind": "train_model", "version": 9}', "version 9 is not known"),
        (b'{"kind": "lease_lost", "version": 1}', "expected train_model"),
        (b'{"kind": "train_model", "version": 1, "seed": "x"}', "seed"),
    ],
)
async def test_poison_is_kept_with_its_reason_and_the_next_is_run(
    control: FakeControl, script: Script, body: bytes, reason: str
) -> None:
    await control.publish(body)
    await control.order(script.command("write"))
    await control.until(lambda: control.dead and control.events)
    letter = control.dead[0]
    assert (letter.body, letter.routing_key) == (body, "train")
    assert reason in letter.headers[REASON]


async def test_no_more_programs_run_than_there_are_slots(
    control: FakeControl, script: Script, objects: ObjectStore, settings: Settings
) -> None:
    commands = [script.command("wait_for_stop") for _ in range(4)]
    for command in commands:
        await control.order(command)
    async with running(control, script, objects, settings.model_copy(update={"worker_slots": 2})):
        await control.until(lambda: len({step.key for step in control.progress if step.stage == "waiting"}) == 2)
        assert (len(control.claims), await control.waiting()) == (2, 2)
        first = next(command for command in commands if command.key == control.claims[0].key)
        await control.signal(first, Verdict.CANCELLED)
        await control.until(lambda: len(control.claims) == 3)


async def test_a_complete_result_is_adopted_under_the_new_claim(
    control: FakeControl, script: Script, objects: ObjectStore, settings: Settings
) -> None:
    command = script.command("write")
    async with running(control, script, objects, settings):
        await control.order(command)
        await control.until(lambda: len(control.events) == 1)
        await control.order(command)
        await control.until(lambda: len(control.events) == 2)
    first, second = control.events
    assert second.claim_id == control.claims[1].claim_id != first.claim_id
    assert second.model_copy(update={"claim_id": first.claim_id}) == first


async def test_an_event_that_was_not_confirmed_is_sent_by_the_next_life(
    control: FakeControl, script: Script, objects: ObjectStore, settings: Settings
) -> None:
    event = await _unconfirmed(control, script, objects, settings, settings)
    async with running(control, script, objects, settings):
        await control.until(lambda: control.events)
    assert control.events == [event]


async def test_the_spool_of_a_dead_worker_is_sent_by_another(
    control: FakeControl, script: Script, objects: ObjectStore, settings: Settings
) -> None:
    dead = settings.model_copy(update={"worker_id": "dead"})
    event = await _unconfirmed(control, script, objects, settings, dead)
    async with running(control, script, objects, settings):
        await control.until(lambda: control.events)
        await control.order(script.command("write"))
        await control.until(lambda: len(control.events) == 2)
    assert control.events[0] == event
    assert not (settings.work_dir / "train" / "dead").exists()


async def _unconfirmed(
    control: FakeControl, script: Script, objects: ObjectStore, settings: Settings, dead: Settings
) -> ModelTrained:
    """The event that a worker had spooled when it was killed."""
    from infra.worker.spool import Spool

    command = script.command()
    event = ModelTrained(
        key=command.key, claim_id=command.key.derive("claim"), worker_id="w", model=command.model, steps=1
    )
    folder = dead.work_dir / "train" / str(dead.worker_id)
    (folder / "jobs").mkdir(parents=True)
    (folder / "lock").touch()
    Spool(folder / "spool").keep(event, {})
    return event


@pytest.mark.usefixtures("host")
async def test_progress_is_coalesced_and_its_last_step_arrives(control: FakeControl, script: Script) -> None:
    await control.order(script.command("progress"))
    await control.until(lambda: control.events)
    steps = [step for step in control.progress if step.stage == "working"]
    assert steps[-1].done == 200
    assert len(steps) < 20


@pytest.mark.usefixtures("host")
async def test_the_trace_of_the_command_is_carried_on(control: FakeControl, script: Script) -> None:
    await control.order(script.command("write"))
    await control.until(lambda: control.events)
    assert control.headers[0]["traceparent"] == TRACE["traceparent"]


async def test_an_idle_worker_says_that_it_is_there(control: FakeControl, host: WorkerHost) -> None:
    await control.until(lambda: len(control.requests) >= 2)
    assert control.requests[0].worker.worker_id == host.worker_id
    assert host.ready
