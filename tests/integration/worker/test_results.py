"""From a command to its event: what the worker publishes, stores and keeps."""

import asyncio
from pathlib import Path

import pytest

from contracts.events import ModelTrained, PhaseFailed
from contracts.tasks import FailureKind
from infra.artifacts import read_manifest, upload
from infra.objects import ObjectStore, ObjectStoreDenied, ObjectStoreUnavailable
from infra.settings import Settings
from infra.worker.host import WorkerHost
from tests.fake_control import TRACE, FakeControl, Script, job_of
from tests.integration.worker.conftest import Running


@pytest.mark.usefixtures("host")
async def test_a_success_is_published_once_the_manifest_contains_it(
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
async def test_the_event_contains_the_result_of_the_program(control: FakeControl, script: Script) -> None:
    command = script.command("write")
    await control.order(command)
    await control.until(lambda: control.events)
    event = control.events[0]
    assert isinstance(event, ModelTrained)
    assert (event.steps, event.key, event.claim_id) == (42, command.key, control.claims[0].claim_id)


@pytest.mark.usefixtures("host")
async def test_the_inputs_are_in_the_folder_that_the_program_reads(
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
async def test_a_crashed_job_keeps_its_folder_and_its_event_names_the_command_that_shows_its_log(
    control: FakeControl, script: Script, worker_settings: Settings
) -> None:
    command = script.command("crash")
    await control.order(command)
    await control.until(lambda: control.events)
    event = control.events[0]
    assert isinstance(event, PhaseFailed)
    assert f"treadle logs {command.key.task_id} --attempt 1/train/a1" in event.message
    assert await asyncio.to_thread((job_of(worker_settings, command) / "log.txt").exists)


async def test_a_finished_job_leaves_no_folder(
    control: FakeControl, script: Script, running: Running, worker_settings: Settings
) -> None:
    command = script.command("write")
    async with running(worker_settings):
        await control.order(command)
        await control.until(lambda: control.events)
    assert not job_of(worker_settings, command).exists()


async def test_an_error_in_the_plan_of_a_job_fails_the_attempt_and_not_the_host(
    control: FakeControl, script: Script, host: WorkerHost
) -> None:
    await control.order(script.command("write").model_copy(update={"key": Script().command().key}))
    await control.order(script.command("write"))
    await control.until(lambda: len(control.events) == 2)
    assert [event.kind for event in control.events] == ["phase_failed", "model_trained"]


@pytest.mark.usefixtures("host")
async def test_progress_is_coalesced_and_its_last_step_arrives(control: FakeControl, script: Script) -> None:
    await control.order(script.command("progress"))
    await control.until(lambda: control.events)
    steps = [step for step in control.progress if step.stage == "working"]
    assert steps[-1].done == 200
    assert len(steps) < 20


@pytest.mark.usefixtures("host")
async def test_the_event_has_the_trace_of_its_command(control: FakeControl, script: Script) -> None:
    await control.order(script.command("write"))
    await control.until(lambda: control.events)
    assert control.headers[0]["traceparent"] == TRACE["traceparent"]


class Unsteady(ObjectStore):
    """A store that fails the first uploads."""

    remaining_failures = 3

    async def put_file(self, key: str, path: Path) -> None:
        if self.remaining_failures > 0:
            self.remaining_failures -= 1
            raise ObjectStoreUnavailable("it is being restarted")
        await super().put_file(key, path)


async def test_a_store_that_is_away_does_not_fail_a_completed_training(
    control: FakeControl, script: Script, objects: ObjectStore, worker_settings: Settings
) -> None:
    unsteady = Unsteady(worker_settings)
    host = WorkerHost(script.worker, control.bus, unsteady, worker_settings)
    await host.start()
    await control.order(script.command("write"))
    await control.until(lambda: control.events)
    await host.stop()
    await unsteady.close()
    assert (control.events[0].kind, unsteady.remaining_failures) == ("model_trained", 0)


class Denying(ObjectStore):
    """A store that denies access, as after a change of its keys."""

    async def get(self, key: str) -> bytes:
        raise ObjectStoreDenied("it answered 403")


async def test_a_store_that_denies_access_fails_the_attempt(
    control: FakeControl, script: Script, worker_settings: Settings
) -> None:
    denying = Denying(worker_settings)
    host = WorkerHost(script.worker, control.bus, denying, worker_settings)
    await host.start()
    await control.order(script.command("write"))
    await control.until(lambda: control.events)
    await host.stop()
    await denying.close()
    event = control.events[0]
    assert isinstance(event, PhaseFailed)
    assert (event.failure, event.message) == (FailureKind.STORE_UNAVAILABLE, "it answered 403")


async def test_a_secret_in_the_last_line_of_a_log_is_masked_in_the_event(
    control: FakeControl, script: Script, host: WorkerHost
) -> None:
    host._jobs._endings._secrets = [b"not a number"]
    await control.order(script.command("crash"))
    await control.until(lambda: control.events)
    event = control.events[0]
    assert isinstance(event, PhaseFailed)
    assert "ValueError: the loss is ***" in event.message
