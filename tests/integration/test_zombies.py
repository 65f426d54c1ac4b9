"""A worker that continues after its lease was lost, and a command of a cancelled task, change nothing."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
import pytest_asyncio

from contracts.artifacts import attempt_prefix
from contracts.events import PhaseFailed
from contracts.http import StandardTaskRequest
from contracts.submissions import CancelTask, CreateTask
from contracts.tasks import AttemptKey, FailureKind, Phase
from contracts.topology import EVENTS
from control.machine.machine import AttemptState
from infra.bus.connect import connect
from infra.settings import Settings
from infra.worker.folders import WorkerFolder
from infra.worker.host import WorkerHost
from tests.acceptance.processes import environment
from tests.eventually import eventually
from tests.integration.control_parts import Running, add_dataset, control_running, publish
from tests.programs.worker import scripted_optimizer

ROOT = Path(__file__).parents[2]
QUICK = {"short_ttl": 1.0, "reaper_tick": 0.2, "fork_programs": False}


@pytest.fixture
def quick(settings: Settings) -> Settings:
    return settings.model_copy(update=QUICK)


@pytest_asyncio.fixture
async def running(quick: Settings) -> AsyncIterator[Running]:
    """Control with leases of one second."""
    async with control_running(quick) as running:
        yield running


@contextmanager
def worker_process(settings: Settings, name: str, *actions: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run an optimizer worker as a process of its own, and kill it at the end."""
    environ = {**environment(settings, worker_id=name), "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen([sys.executable, "-m", "tests.programs.worker", *actions], cwd=ROOT, env=environ)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


async def start_task(running: Running) -> UUID:
    dataset = await add_dataset(running.store, f"raw-{uuid4()}")
    body = StandardTaskRequest(task_name="t", model_name="/m", dataset_id=dataset, user_id=1, auto_start=True)
    return (await running.control.submissions.create(CreateTask(task=body))).task.task_id


def attempt(task: UUID, number: int) -> AttemptKey:
    return AttemptKey(task_id=task, iteration=1, phase=Phase.OPTIMIZE, attempt=number)


async def is_busy(running: Running, name: str, busy: int) -> bool:
    return any((worker.worker_id, worker.busy) == (name, busy) for worker in await running.store.workers(60))


async def stored_state(running: Running, task: UUID) -> dict[str, Any]:
    """All that a zombie could change: the task, its history, its attempts, and the artifact of the second one."""
    names = await running.objects.names(attempt_prefix(attempt(task, 2)))
    return {
        "task": await running.store.task(task),
        "history": [row for row in await running.store.history(task) if row.outcome == "applied"],
        "attempts": await running.store.attempts(task),
        "artifact": {name: await running.objects.get(name) for name in names},
    }


async def wait_for_all_events(running: Running, task: UUID) -> None:
    """Publish an event behind all others and wait until control has handled it."""
    last = PhaseFailed(
        key=attempt(task, 1),
        claim_id=uuid4(),
        worker_id="the last",
        failure=FailureKind.PROGRAM_CRASHED,
        message="stale",
    )
    await publish(running.bus, EVENTS.name, last)

    async def recorded() -> bool:
        return any(row.actor == "the last" for row in await running.store.history(task))

    await eventually(recorded, "the last event in the history")


@pytest.mark.parametrize("ends_meanwhile", [False, True], ids=["its program still runs", "its program has ended"])
async def test_a_worker_that_was_suspended_beyond_its_lease_changes_nothing_when_it_continues(
    running: Running, quick: Settings, ends_meanwhile: bool
) -> None:
    task = await start_task(running)
    job = WorkerFolder.of(quick, Phase.OPTIMIZE, "zombie").job_path(attempt(task, 1))
    with worker_process(quick, "zombie", "wait_for_go", "write") as zombie:
        await eventually(lambda: asyncio.to_thread((job / "out").exists), "the program to run")
        await eventually(lambda: is_busy(running, "zombie", 1), "a heartbeat")
        zombie.send_signal(signal.SIGSTOP)
        if ends_meanwhile:
            (job / "go").touch()
            await eventually(lambda: asyncio.to_thread((job / "result.json").exists), "the program's result")
        with worker_process(quick, "successor", "write"):
            await running.until(task, "TRAINING", within=40)
        before = await stored_state(running, task)
        zombie.send_signal(signal.SIGCONT)
        await eventually(lambda: is_busy(running, "zombie", 0), "the zombie to end its attempt")
        await wait_for_all_events(running, task)
    assert [attempt.state for attempt in before["attempts"][:2]] == [AttemptState.LOST, AttemptState.COMPLETED]
    assert before["artifact"]
    assert await stored_state(running, task) == before


async def test_a_cancel_while_the_command_is_queued_prevents_the_program_from_starting(
    running: Running, quick: Settings
) -> None:
    cancelled = await start_task(running)
    await running.control.submissions.request(CancelTask(task_id=cancelled))
    bus = connect(quick)
    await bus.start()
    host = WorkerHost(scripted_optimizer("write"), bus, running.objects, quick)
    await host.start()
    next_task = await start_task(running)
    await running.until(next_task, "TRAINING", within=40)
    await host.stop()
    await bus.close()
    (attempt,) = await running.store.attempts(cancelled)
    assert (attempt.state, attempt.claimed_at) == (AttemptState.CANCELLED, None)
    assert await running.objects.names(attempt_prefix(attempt.key)) == []
