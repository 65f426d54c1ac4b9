"""The requests of an operator have the same effect over HTTP, on the command line and over the broker."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from uuid import UUID, uuid4

import pytest
import pytest_asyncio
from typer.testing import CliRunner

from cli.main import app
from cli.services.http_server import serve
from contracts.events import PhaseFailed
from contracts.tasks import FailureKind, Phase, TaskStatus
from infra.settings import Settings
from tests.eventually import eventually
from tests.integration.control_parts import BODY, PuppetWorker, Running, add_dataset, control_running, send

WHY = "the GPU is needed"
REQUESTS = [
    # the status before, the request, its body, the same as options of the command line, and the status after
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
class Clients:
    """Control on real services with its gateway on a port, and the three ways to send it a request."""

    running: Running
    url: str
    bus_url: str

    async def task(self, status: str) -> UUID:
        """Create a task with this status."""
        body = {**BODY, "autoStart": status != "PENDING"}
        task_id = UUID((await self.running.http.post("/api/tasks/continuous", json=body)).json()["taskId"])
        first_action = {"SUSPENDED": "pause", "FAILED": "fail"}.get(status)
        if first_action:
            await self.running.http.post(f"/api/tasks/{task_id}/{first_action}", json={"reason": "for the test"})
        assert await self.running.status(task_id) == status
        return task_id

    async def http(self, task_id: UUID, action: str, body: dict[str, object], _: list[str]) -> str | None:
        """The detail of the problem, or None if the request was accepted."""
        answer = await self.running.http.post(f"/api/tasks/{task_id}/{action}", json={**body, "reason": WHY})
        return None if answer.is_success else str(answer.json()["detail"])

    async def cli(self, task_id: UUID, action: str, _: dict[str, object], options: list[str]) -> str | None:
        arguments = [action, str(task_id), *options, "--reason", WHY, "--url", self.url]
        result = await asyncio.to_thread(CliRunner().invoke, app, arguments)
        return None if result.exit_code == 0 else result.stderr.strip()

    async def broker(self, task_id: UUID, action: str, body: dict[str, object], _: list[str]) -> str | None:
        message = {"kind": f"{action}_task", "version": 1, "submission_id": str(uuid4()), "task_id": str(task_id)}
        answer = await send(self.bus_url, {**message, **body, "reason": WHY})
        return None if answer["kind"] == "submission_accepted" else str(answer["problem"]["detail"])


@pytest_asyncio.fixture
async def clients(settings: Settings, bus_url: str) -> AsyncIterator[Clients]:
    """Control with one dataset."""
    async with control_running(settings) as running:
        await add_dataset(running.store)
        async with serve(running.app, "127.0.0.1", 0, running.control.progress_hub.close) as url:
            yield Clients(running, url, bus_url)


@pytest.mark.parametrize(("status", "action", "body", "options", "after"), REQUESTS)
async def test_a_request_of_every_client_is_done_and_its_reason_is_in_the_history(
    clients: Clients, status: str, action: str, body: dict[str, object], options: list[str], after: str
) -> None:
    for client in (clients.http, clients.cli, clients.broker):
        task_id = await clients.task(status)
        assert await client(task_id, action, body, options) is None
        newest = (await clients.running.store.history(task_id))[-1]
        assert (newest.kind, newest.status, newest.reason) == (f"{action}_task", after, WHY), client.__name__
        assert newest.event.items() >= body.items(), client.__name__


@pytest.mark.parametrize(("status", "action", "body", "options"), REFUSED)
async def test_a_request_is_refused_alike_for_every_client(
    clients: Clients, status: str, action: str, body: dict[str, object], options: list[str]
) -> None:
    task_id = await clients.task(status)
    http, cli, broker = [
        await client(task_id, action, body, options) for client in (clients.http, clients.cli, clients.broker)
    ]
    assert http is not None
    assert (cli, broker) == (f"status: {http}", http)
    assert await clients.running.status(task_id) == status


async def waiting(clients: Clients, task_id: UUID) -> str:
    """The sentence in which the gateway gives the reason why the task waits."""
    answer = await clients.running.http.get(f"/api/tasks/{task_id}")
    return str(answer.json()["waiting"]["sentence"])


async def test_a_kicked_worker_is_fenced_and_may_claim_the_next_attempt(clients: Clients) -> None:
    worker, claim_id = PuppetWorker(clients.running.bus, Phase.OPTIMIZE), uuid4()
    await worker.start()
    task_id = await clients.task("OPTIMIZING")
    stuck = await worker.command()
    await worker.claim(stuck, claim_id)
    await clients.http(task_id, "kick", {}, [])
    assert (await worker.heartbeat(stuck, claim_id)).verdict == "fenced"
    again = await worker.command(2)
    assert again.key.attempt == 2
    assert (await worker.claim(again)).verdict == "granted"
    attempts = await clients.running.store.attempts(task_id)
    assert [(attempt.state, attempt.message) for attempt in attempts] == [("fenced", WHY), ("running", None)]


async def test_a_late_failure_of_a_paused_task_is_kept_and_does_not_fail_it(clients: Clients) -> None:
    worker, claim_id = PuppetWorker(clients.running.bus, Phase.OPTIMIZE), uuid4()
    await worker.start()
    task_id = await clients.task("OPTIMIZING")
    command = await worker.command()
    await worker.claim(command, claim_id)
    await clients.http(task_id, "pause", {}, [])
    late = PhaseFailed(
        key=command.key,
        claim_id=claim_id,
        worker_id="puppet",
        failure=FailureKind.BAD_INPUT,
        message="row 7 has no prompt",
    )
    await worker.report(late)

    async def reported() -> bool:
        return "meanwhile" in await waiting(clients, task_id)

    await eventually(reported, "the failure to be reported")
    expected = f"paused by http: {WHY}; meanwhile attempt 1 failed (bad_input): row 7 has no prompt"
    assert await waiting(clients, task_id) == expected
    assert await clients.running.status(task_id) == TaskStatus.SUSPENDED


@pytest.mark.parametrize(("action", "verdict"), [("pause", "pause"), ("cancel", "cancelled")])
async def test_a_pause_or_a_cancel_before_a_delayed_start_is_the_verdict_on_its_claim(
    clients: Clients, action: str, verdict: str
) -> None:
    worker = PuppetWorker(clients.running.bus, Phase.OPTIMIZE)
    await worker.start()
    task_id = await clients.task("PENDING")
    await clients.http(task_id, "start", {"after_seconds": 0.5}, [])
    assert await waiting(clients, task_id) == "its start is scheduled"
    await clients.http(task_id, action, {}, [])
    assert (await worker.claim(await worker.command())).verdict == verdict


async def test_a_delayed_start_is_due_at_once_after_a_resume(clients: Clients) -> None:
    worker = PuppetWorker(clients.running.bus, Phase.OPTIMIZE)
    await worker.start()
    task_id = await clients.task("PENDING")
    await clients.http(task_id, "start", {"after_seconds": 3600.0}, [])
    await clients.http(task_id, "pause", {}, [])
    await clients.http(task_id, "resume", {}, [])
    assert (await worker.claim(await worker.command())).verdict == "granted"


async def test_show_prints_why_a_task_waits(clients: Clients) -> None:
    task_id = await clients.task("OPTIMIZING")
    result = await asyncio.to_thread(CliRunner().invoke, app, ["show", str(task_id), "--url", clients.url])
    assert "no optimizer is connected; start one with `treadle worker optimizer`" in " ".join(result.stdout.split())
