"""Dead letters on a real broker, listed, shown, replayed and purged by the command line."""

from __future__ import annotations

import asyncio
import json
from uuid import UUID, uuid4

import pytest
from click.testing import Result
from typer.testing import CliRunner

from cli.main import app
from cli.services.composition import phase_worker
from contracts.http import StandardTaskRequest
from contracts.submissions import CreateTask, PauseTask
from contracts.tasks import FailureKind, Phase, TaskStatus
from contracts.topology import COMMANDS, DEAD_QUEUE, PHASE_QUEUES, SUBMISSIONS_QUEUE, TASKS
from contracts.wire import encode
from control.machine.machine import AttemptState
from control.maintenance.replay import dead_letters, purge
from infra.bus.port import OutgoingMessage
from infra.settings import Settings
from infra.worker.host import WorkerHost
from tests.eventually import eventually
from tests.integration.control_parts import Running, add_dataset, control_running


@pytest.fixture
def _configured(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Set the environment variables that the command line reads."""
    for name in ("bus_url", "database_url", "s3_access_key", "s3_secret_key"):
        monkeypatch.setenv(f"TREADLE_{name.upper()}", getattr(settings, name).get_secret_value())
    monkeypatch.setenv("TREADLE_S3_ENDPOINT", settings.s3_endpoint)
    monkeypatch.setenv("TREADLE_S3_BUCKET", settings.s3_bucket)


async def treadle(*arguments: str) -> Result:
    """Run a command on a thread, because it runs an event loop of its own."""
    return await asyncio.to_thread(CliRunner().invoke, app, arguments)


async def start_task(running: Running) -> UUID:
    dataset = await add_dataset(running.store)
    body = StandardTaskRequest(task_name="t", model_name="/m", dataset_id=dataset, user_id=1, auto_start=True)
    return (await running.control.submissions.create(CreateTask(task=body))).task.task_id


async def publish_dead_request(running: Running, task_id: UUID) -> str:
    """Publish a pause of an unknown task, wait until it is a dead letter, and return its message id."""
    pause = PauseTask(task_id=task_id, submission_id=uuid4())
    await running.bus.publish(OutgoingMessage(TASKS.name, pause.kind, encode(pause), str(pause.message_id)))
    await wait_for_dead_letters(running, 1)
    return str(pause.message_id)


async def wait_for_dead_letters(running: Running, count: int) -> None:
    async def reached() -> bool:
        return await running.bus.depth(DEAD_QUEUE.name) == count

    await eventually(reached, f"{count} dead letters")


@pytest.mark.usefixtures("_configured")
async def test_the_command_line_lists_shows_and_purges(settings: Settings) -> None:
    async with control_running(settings) as running:
        dead = await publish_dead_request(running, task_id := uuid4())
    (listed,) = json.loads((await treadle("dlq", "list", "--format", "json")).stdout)
    assert (listed["id"], listed["queue"], listed["kind"]) == (dead, SUBMISSIONS_QUEUE.name, "pause_task")
    assert (listed["taskId"], listed["failures"]) == (str(task_id), 1)
    assert "there is no task" in listed["reason"]
    shown = json.loads((await treadle("dlq", "show", dead, "--format", "json")).stdout)
    assert shown["body"]["task_id"] == str(task_id)
    assert (await treadle("dlq", "purge", "--all")).exit_code == 2
    assert "dead letters deleted: 1" in (await treadle("dlq", "purge", "--all", "--yes")).stdout
    assert "there are no dead letters" in (await treadle("dlq", "list")).stdout


@pytest.mark.usefixtures("_configured")
async def test_a_replayed_message_is_handled_and_a_refused_one_stays(settings: Settings) -> None:
    async with control_running(settings) as running:
        refused = await publish_dead_request(running, uuid4())
        task_id = await start_task(running)
        pause = PauseTask(task_id=task_id, submission_id=uuid4())
        headers = {"x-first-death-queue": SUBMISSIONS_QUEUE.name, "x-first-death-reason": "delivery_limit"}
        await running.bus.publish(OutgoingMessage("", DEAD_QUEUE.name, encode(pause), str(pause.message_id), headers))
        await wait_for_dead_letters(running, 2)
        answer = await treadle("dlq", "replay", "--all", "--format", "json")
        became = {row["id"]: row["result"] for row in json.loads(answer.stdout)}
        assert became == {refused: "refused", str(pause.message_id): "replayed"}
        assert answer.exit_code == 1
        await running.until(task_id, TaskStatus.SUSPENDED)
        assert [letter.id for letter in await dead_letters(running.bus)] == [refused]


async def test_a_dead_lettered_command_fails_its_attempt_so_that_the_task_continues_after_a_purge(
    settings: Settings,
) -> None:
    async with control_running(settings) as running:
        task_id = await start_task(running)
        await corrupt_the_command(running)
        host = WorkerHost(phase_worker(Phase.OPTIMIZE), running.bus, running.objects, settings)
        await host.start()
        await wait_for_dead_letters(running, 1)
        await host.stop()
        assert len(await purge(running.bus, lambda _: True)) == 1

        async def issued_again() -> bool:
            return len(await running.store.attempts(task_id)) == 2

        await eventually(issued_again, "the next attempt")
        first, second = await running.store.attempts(task_id)
        assert (first.event or {})["failure"] == FailureKind.DEAD_LETTERED
        assert second.state is AttemptState.DISPATCHED


async def corrupt_the_command(running: Running) -> None:
    """Remove a field from the command in the queue."""
    queue = PHASE_QUEUES[Phase.OPTIMIZE].name

    async def queued() -> bool:
        return await running.bus.depth(queue) == 1

    await eventually(queued, "the command")
    async with running.bus.browse(queue, 1) as (command,):
        body = json.loads(command.body)
        del body["seed"]
        corrupted = OutgoingMessage(COMMANDS.name, Phase.OPTIMIZE, json.dumps(body).encode(), command.message_id or "")
        await command.ack()
    await running.bus.publish(corrupted)
