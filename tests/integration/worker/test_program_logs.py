"""The logs of real programs in a real object store, however their attempts end."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from pydantic import SecretStr
from structlog.testing import capture_logs

from contracts.artifacts import log_prefix
from contracts.commands import TrainModel
from contracts.events import PhaseFailed
from contracts.leases import LeaseVerdict
from infra.objects import ObjectStore, ObjectStoreUnavailable
from infra.settings import Settings
from infra.worker import program_log
from tests.eventually import eventually
from tests.fake_control import FakeControl, Script, job_of
from tests.integration.worker.conftest import Running
from tests.programs.scripted import SECRET_FILE, Action

WRITTEN = b"a library's chatter\na warning\n"


async def stored(objects: ObjectStore, command: TrainModel) -> bytes:
    names = await objects.names(f"{log_prefix(command.key)}/")
    return b"".join([await objects.get(name) for name in names])


async def ended(control: FakeControl, command: TrainModel) -> PhaseFailed:
    await control.order(command)
    await control.until(lambda: control.events)
    event = control.events[0]
    assert isinstance(event, PhaseFailed)
    return event


ENDS: dict[Action, bytes] = {
    "crash": b"ValueError: the loss is not a number",
    "bad_input": b"a warning",
    "killed": b"a warning",
    "segfault": b"a warning",
    "memory_error": b"a warning",
}


@pytest.mark.usefixtures("host")
@pytest.mark.parametrize("action", ENDS)
async def test_the_log_of_a_failed_program_is_stored_before_its_event_is_published(
    control: FakeControl, script: Script, objects: ObjectStore, action: Action
) -> None:
    command = script.command("noise", action)
    event = await ended(control, command)
    text = await stored(objects, command)
    assert WRITTEN in text
    assert ENDS[action] in text
    assert "on the machine" not in event.message


@pytest.mark.usefixtures("host")
async def test_a_crash_names_the_command_that_shows_its_log(control: FakeControl, script: Script) -> None:
    command = script.command("noise", "crash")
    shown = f"(see its log with `treadle logs {command.key.task_id} --attempt 1/train/a1`)"
    assert (await ended(control, command)).message.endswith(shown)


@pytest.mark.usefixtures("host")
async def test_the_log_of_a_completed_program_is_stored(
    control: FakeControl, script: Script, objects: ObjectStore
) -> None:
    command = script.command("noise", "write")
    await control.order(command)
    await control.until(lambda: control.events)
    assert WRITTEN in await stored(objects, command)


@pytest.mark.usefixtures("host")
async def test_the_log_of_a_program_that_takes_too_long_is_stored(
    control: FakeControl, script: Script, objects: ObjectStore
) -> None:
    command = script.command("noise", "ignore_stop").model_copy(update={"time_limit": 1.0})
    await ended(control, command)
    assert WRITTEN in await stored(objects, command)


@pytest.mark.usefixtures("host")
@pytest.mark.parametrize("verdict", [LeaseVerdict.PAUSE, LeaseVerdict.CANCELLED, LeaseVerdict.FENCED])
async def test_the_log_of_an_attempt_that_control_ends_is_stored(
    control: FakeControl, script: Script, objects: ObjectStore, verdict: LeaseVerdict
) -> None:
    command = script.command("noise", "wait_for_stop")
    await control.order(command)
    await control.until(lambda: any(step.stage == "waiting" for step in control.progress))
    await control.signal(command, verdict)
    assert await eventually(lambda: stored(objects, command), "the log") == WRITTEN
    assert list(await objects.names(f"{log_prefix(command.key)}/")) == await objects.names("logs/")


async def test_a_log_can_be_read_while_the_program_runs(
    control: FakeControl, script: Script, objects: ObjectStore, running: Running, worker_settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(program_log, "UPLOAD_INTERVAL", 0.05)
    command = script.command("noise", "wait_for_stop")
    async with running(worker_settings):
        await control.order(command)
        assert await eventually(lambda: stored(objects, command), "the log") == WRITTEN
        assert control.events == []


@pytest.mark.usefixtures("host")
@pytest.mark.parametrize("hangs", [False, True], ids=["away", "hangs"])
async def test_a_log_that_cannot_be_uploaded_changes_nothing_but_the_message(
    control: FakeControl, script: Script, objects: ObjectStore, worker_settings: Settings, hangs: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    async def put(key: str, data: bytes) -> None:
        if hangs:
            await asyncio.Event().wait()
        raise ObjectStoreUnavailable("away")

    monkeypatch.setattr(program_log, "FINISH_TIMEOUT", 0.5)
    monkeypatch.setattr(objects, "put", put)
    command = script.command("noise", "crash")
    with capture_logs() as logs:
        event = await ended(control, command)
    place = str(job_of(worker_settings, command))
    assert event.failure.value == "program_crashed"
    assert event.message.endswith(f"could not be uploaded and is on the machine of worker w, in {place})")
    assert "program_log_not_uploaded" in [line["event"] for line in logs]
    assert (Path(place) / "log.txt").read_bytes().startswith(WRITTEN)


async def test_no_secret_of_the_worker_is_in_a_log(
    control: FakeControl, script: Script, objects: ObjectStore, running: Running, worker_settings: Settings,
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
) -> None:  # fmt: skip
    variables = {
        "HF_TOKEN": "my-own-hub-token",
        "AWS_SESSION_TOKEN": "session/token+value",
        "RABBITMQ_DEFAULT_PASS": "rabbit-pass",
        "PGPASSWORD": "pg-pass",
        "MINIO_ROOT_PASSWORD": "minio-pass",
        "RCLONE_CONFIG_X": "obscured-0f9a8b",
        "DATABASE_URL": "postgresql://u:url-pass%21@host/db",
        "OTEL_EXPORTER_OTLP_HEADERS": "authorization=Bearer%20otlp-value",
    }
    shapes = ["AKIAIOSFODNN7EXAMPLE", "hf_abcDEF0123456789", "sk-abcdef0123456789", "u:secret-in-url"]
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    secrets = {
        "bus_admin_url": SecretStr("http://admin:admin-pass@host:15672"),
        "database_url": SecretStr("postgresql://t:database-pass@host/db"),
    }
    settings = worker_settings.model_copy(update=secrets)
    keys = [settings.s3_secret_key.get_secret_value(), "admin-pass", "database-pass"]
    plain = [*keys, "my-own-hub-token", "session/token+value", "rabbit-pass", "pg-pass", "minio-pass"]
    plain += ["obscured-0f9a8b", "url-pass%21", "url-pass!", "otlp-value", *shapes[:3], "http://u:secret-in-url@h"]
    monkeypatch.setenv(SECRET_FILE, str(tmp_path / "plain"))
    (tmp_path / "plain").write_text("".join(f"word {secret} word\n" for secret in plain) + f"Bearer {shapes[2]}x\n")
    command = script.command("show_secrets", "noise", "crash")
    async with running(settings):
        await ended(control, command)
    text = (await stored(objects, command)).decode()
    assert [secret for secret in plain if secret in text or secret.rpartition("u:")[2].removesuffix("@h") in text] == []
    assert text.startswith("word *** word\n" * 2)
    assert "Bearer ***" in text
    assert WRITTEN.decode() in text


async def test_ordinary_values_of_the_environment_are_not_masked(
    control: FakeControl, script: Script, objects: ObjectStore, running: Running, worker_settings: Settings,
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
) -> None:  # fmt: skip
    ordinary = {
        "TREADLE_LOG_LEVEL": "DEBUG", "AWS_REGION": "eu-central-1", "PGHOST": "database.example",
        "PGUSER": "treadle-app",
        "TREADLE_WORK_DIR": str(tmp_path), "TREADLE_S3_BUCKET": "my-bucket-2", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://h:1",
    }  # fmt: skip
    for name, value in ordinary.items():
        monkeypatch.setenv(name, value)
    written = "".join(f"{value}\n" for value in (*ordinary.values(), "treadle", "guest"))
    (tmp_path / "plain").write_text(written)
    monkeypatch.setenv(SECRET_FILE, str(tmp_path / "plain"))
    command = script.command("show_secrets")
    async with running(worker_settings):
        await control.order(command)
        await control.until(lambda: control.events)
    assert (await stored(objects, command)).decode() == written


async def test_another_attempt_has_another_log(
    control: FakeControl, script: Script, objects: ObjectStore, running: Running, worker_settings: Settings
) -> None:
    first = script.command("noise", "crash")
    key = first.key.model_copy(update={"attempt": 2})
    second = first.model_copy(update={"key": key, "output": f"models/{key.task_id}/1/a2"})
    async with running(worker_settings):
        await ended(control, first)
        before = await stored(objects, first)
        await control.order(second)
        await control.until(lambda: len(control.events) == 2)
    assert await stored(objects, first) == before
    assert len(await objects.names("logs/")) == 2
