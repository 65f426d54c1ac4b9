"""What an operator asks of a task: alike over HTTP, on the command line and over the broker."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from uuid import UUID, uuid4

import pytest
import pytest_asyncio
from typer.testing import CliRunner

from cli.main import app
from cli.services.http_server import served
from contracts.events import PhaseFailed
from contracts.tasks import FailureKind, Phase, TaskStatus
from infra.settings import Settings
from tests.eventually import eventually
from tests.integration.control_parts import BODY, PuppetWorker, Running, add_dataset, control_running, send

WHY = "the GPU is needed"
REQUESTS = [
    # what is asked of a task in which status, with what body, and the options that say the same; then the status
    ("PENDING", "start", {}, [], "OPTIMIZING"),
    ("PENDING", "start", {"after_seconds": 3600.0}, ["--in", "1h"], "OPTIMIZING"),
    ("OPTIMIZING", "pause", {}, [], "SUSPENDED"),
    ("OPTIMIZING", "pause", {"mode": "drain"}, ["--mode", "drain"], "SUSPENDED"),
    ("OPTIMIZING", "pause", {"mode": "checkpoint"}, ["--mode", "checkpoint"], "SUSPENDED"),
    ("OPTIMIZING", "pause", {"mode": "now"}, ["--mode", "now"], "SUSPENDED"),
    ("SUSPENDED", "pause", {"mode": "now"}, ["--mode", "now"], "SUSPENDED"),
    ("SUSPENDED", "resume", {}, [], "OPTIMIZING"),
    ("OPTIMIZING", "cancel", {}, [], "CANCELLED"),
    ("OPTIMIZING", "kick", {}, [], "OPTIMIZING"),
    ("OPTIMIZING", "kick", {"attempt": "1/optimize/a1"}, ["--attempt", "1/optimize/a1"], "OPTIMIZING"),
    ("OPTIMIZING", "fail", {}, [], "FAILED"),
    ("OPTIMIZING", "fail", {"attempt": "1/optimize/a1"}, ["--attempt", "1/optimize/a1"], "FAILED"),
    ("FAILED", "retry", {}, [], "OPTIMIZING"),
    ("FAILED", "retry", {"phase": "optimize"}, ["--from-phase", "optimize"], "OPTIMIZING"),
]
REFUSED = [
    ("OPTIMIZING", "retry", {}, []),
    ("FAILED", "retry", {"phase": "train"}, ["--from-phase", "train"]),
    ("PENDING", "kick", {}, []),
    ("SUSPENDED", "fail", {}, []),
    ("OPTIMIZING", "kick", {"attempt": "1/optimize/a2"}, ["--attempt", "1/optimize/a2"]),
    ("OPTIMIZING", "fail", {"attempt": "1/train/a1"}, ["--attempt", "1/train/a1"]),
]


@dataclass(frozen=True)
class Desk:
    """Control on real parts, its gateway on a port, and the roads to it."""

    running: Running
    url: str
    bus_url: str

    async def task(self, status: str) -> UUID:
        """A task that stands there."""
        body = {**BODY, "autoStart": status != "PENDING"}
        task_id = UUID((await self.running.http.post("/api/tasks/continuous", json=body)).json()["taskId"])
        before = {"SUSPENDED": "pause", "FAILED": "fail"}.get(status)
        if before:
            await self.running.http.post(f"/api/tasks/{task_id}/{before}", json={"reason": "to stand there"})
        assert await self.running.status(task_id) == status
        return task_id

    async def http(self, task_id: UUID, what: str, body: dict[str, object], _: list[str]) -> str | None:
        """The problem's sentence; None where it was done."""
        answer = await self.running.http.post(f"/api/tasks/{task_id}/{what}", json={**body, "reason": WHY})
        return None if answer.is_success else str(answer.json()["detail"])

    async def cli(self, task_id: UUID, what: str, _: dict[str, object], options: list[str]) -> str | None:
        arguments = [what, str(task_id), *options, "--reason", WHY, "--url", self.url]
        result = await asyncio.to_thread(CliRunner().invoke, app, arguments)
        return None if result.exit_code == 0 else result.stderr.strip()

    async def broker(self, task_id: UUID, what: str, body: dict[str, object], _: list[str]) -> str | None:
        message = {"kind": f"{what}_task", "version": 1, "submission_id": str(uuid4()), "task_id": str(task_id)}
        answer = await send(self.bus_url, {**message, **body, "reason": WHY})
        return None if answer["kind"] == "submission_accepted" else str(answer["problem"]["detail"])


@pytest_asyncio.fixture
async def desk(settings: Settings, bus_url: str) -> AsyncIterator[Desk]:
    """Control with one dataset."""
    async with control_running(settings) as running:
        await add_dataset(running.store)
        async with served(running.app, "127.0.0.1", 0, running.control.live.close) as url:
            yield Desk(running, url, bus_url)


@pytest.mark.parametrize(("status", "what", "body", "options", "after"), REQUESTS)
async def test_a_request_is_done_on_every_road_and_its_reason_stands_in_the_history(
    desk: Desk, status: str, what: str, body: dict[str, object], options: list[str], after: str
) -> None:
    for road in (desk.http, desk.cli, desk.broker):
        task_id = await desk.task(status)
        assert await road(task_id, what, body, options) is None
        newest = (await desk.running.store.history(task_id))[-1]
        assert (newest.kind, newest.status, newest.reason) == (f"{what}_task", after, WHY), road.__name__
        assert newest.event.items() >= body.items(), road.__name__


@pytest.mark.parametrize(("status", "what", "body", "options"), REFUSED)
async def test_a_request_is_refused_alike_on_every_road(
    desk: Desk, status: str, what: str, body: dict[str, object], options: list[str]
) -> None:
    task_id = await desk.task(status)
    http, cli, broker = [await road(task_id, what, body, options) for road in (desk.http, desk.cli, desk.broker)]
    assert http is not None
    assert (cli, broker) == (f"status: {http}", http)
    assert await desk.running.status(task_id) == status


async def waiting(desk: Desk, task_id: UUID) -> str:
    """What the gateway says the task waits for."""
    answer = await desk.running.http.get(f"/api/tasks/{task_id}")
    return str(answer.json()["waiting"]["sentence"])


async def test_a_kicked_worker_is_fenced_and_the_next_attempt_is_its_to_take(desk: Desk) -> None:
    worker, claim_id = PuppetWorker(desk.running.bus, Phase.OPTIMIZE), uuid4()
    await worker.start()
    task_id = await desk.task("OPTIMIZING")
    stuck = await worker.command()
    await worker.claim(stuck, claim_id)
    await desk.http(task_id, "kick", {}, [])
    assert (await worker.beat(stuck, claim_id)).verdict == "fenced"
    again = await worker.command(2)
    assert again.key.attempt == 2
    assert (await worker.claim(again)).verdict == "granted"
    attempts = await desk.running.store.runs(task_id)
    assert [(run.state, run.message) for run in attempts] == [("fenced", WHY), ("running", None)]


async def test_a_late_failure_of_a_paused_task_is_kept_and_does_not_fail_it(desk: Desk) -> None:
    worker, claim_id = PuppetWorker(desk.running.bus, Phase.OPTIMIZE), uuid4()
    await worker.start()
    task_id = await desk.task("OPTIMIZING")
    command = await worker.command()
    await worker.claim(command, claim_id)
    await desk.http(task_id, "pause", {}, [])
    late = PhaseFailed(
        key=command.key,
        claim_id=claim_id,
        worker_id="puppet",
        failure=FailureKind.BAD_INPUT,
        message="row 7 has no prompt",
    )
    await worker.report(late)

    async def told() -> bool:
        return "meanwhile" in await waiting(desk, task_id)

    await eventually(told, "the failure to be told")
    said = f"paused by http: {WHY}; meanwhile attempt 1 failed (bad_input): row 7 has no prompt"
    assert await waiting(desk, task_id) == said
    assert await desk.running.status(task_id) == TaskStatus.SUSPENDED


@pytest.mark.parametrize(("what", "verdict"), [("pause", "pause"), ("cancel", "cancelled")])
async def test_a_pause_or_a_cancel_before_the_start_is_due_holds(desk: Desk, what: str, verdict: str) -> None:
    worker = PuppetWorker(desk.running.bus, Phase.OPTIMIZE)
    await worker.start()
    task_id = await desk.task("PENDING")
    await desk.http(task_id, "start", {"after_seconds": 0.5}, [])
    assert await waiting(desk, task_id) == "its start is scheduled"
    await desk.http(task_id, what, {}, [])
    assert (await worker.claim(await worker.command())).verdict == verdict


async def test_a_delayed_start_that_is_resumed_begins_at_once(desk: Desk) -> None:
    worker = PuppetWorker(desk.running.bus, Phase.OPTIMIZE)
    await worker.start()
    task_id = await desk.task("PENDING")
    await desk.http(task_id, "start", {"after_seconds": 3600.0}, [])
    await desk.http(task_id, "pause", {}, [])
    await desk.http(task_id, "resume", {}, [])
    assert (await worker.claim(await worker.command())).verdict == "granted"


async def test_show_says_why_a_task_waits(desk: Desk) -> None:
    task_id = await desk.task("OPTIMIZING")
    result = await asyncio.to_thread(CliRunner().invoke, app, ["show", str(task_id), "--url", desk.url])
    assert "no optimizer is there; start one with `treadle worker optimizer`" in " ".join(result.stdout.split())
