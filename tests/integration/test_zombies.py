"""Workers that come back from the dead, and commands that outlive what they ask for: nothing comes of them."""

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
from control.machine.machine import RunState
from infra.bus.connect import connect
from infra.settings import Settings
from infra.worker.folders import WorkerFolder
from infra.worker.host import WorkerHost
from tests.acceptance.processes import environment
from tests.eventually import eventually
from tests.integration.control_parts import Running, add_dataset, control_running, publish
from tests.programs.worker import scripted_optimizer

ROOT = Path(__file__).parents[2]
QUICK = {"short_ttl": 1.0, "reaper_tick": 0.2, "warm_children": False}


@pytest.fixture
def quick(settings: Settings) -> Settings:
    return settings.model_copy(update=QUICK)


@pytest_asyncio.fixture
async def running(quick: Settings) -> AsyncIterator[Running]:
    """Control, with leases that end soon."""
    async with control_running(quick) as found:
        yield found


@contextmanager
def worker_process(settings: Settings, name: str, *actions: str) -> Iterator[subprocess.Popen[bytes]]:
    """A worker of the optimizer's phase, in a process of its own; killed at the end."""
    environ = {**environment(settings, worker_id=name), "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen([sys.executable, "-m", "tests.programs.worker", *actions], cwd=ROOT, env=environ)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


async def a_started_task(running: Running) -> UUID:
    dataset = await add_dataset(running.store, f"raw-{uuid4()}")
    body = StandardTaskRequest(task_name="t", model_name="/m", dataset_id=dataset, user_id=1, auto_start=True)
    return (await running.control.submissions.create(CreateTask(task=body))).task_id


def attempt(task: UUID, number: int) -> AttemptKey:
    return AttemptKey(task_id=task, iteration=1, phase=Phase.OPTIMIZE, attempt=number)


async def is_busy(running: Running, name: str, busy: int) -> bool:
    return any((worker.worker_id, worker.busy) == (name, busy) for worker in await running.store.workers(60))


async def what_stands(running: Running, task: UUID) -> dict[str, Any]:
    """All that a zombie might harm: the task, its history, its attempts, and the second one's artifact."""
    names = await running.objects.names(attempt_prefix(attempt(task, 2)))
    return {
        "task": await running.store.task(task),
        "history": [row for row in await running.store.history(task) if row.outcome == "applied"],
        "runs": await running.store.runs(task),
        "artifact": {name: await running.objects.get(name) for name in names},
    }


async def all_events_are_heard(running: Running, task: UUID) -> None:
    """Wait for control to have dealt with an event that stands behind all others."""
    last = PhaseFailed(
        key=attempt(task, 1),
        claim_id=uuid4(),
        worker_id="the last",
        failure=FailureKind.PROGRAM_CRASHED,
        message="stale",
    )
    await publish(running.bus, EVENTS.name, last)

    async def heard() -> bool:
        return any(row.actor == "the last" for row in await running.store.history(task))

    await eventually(heard, "the last event in the history")


@pytest.mark.parametrize("ends_meanwhile", [False, True], ids=["its program still runs", "its program has ended"])
async def test_a_worker_that_was_stopped_past_its_lease_changes_nothing_when_it_goes_on(
    running: Running, quick: Settings, ends_meanwhile: bool
) -> None:
    task = await a_started_task(running)
    job = WorkerFolder.of(quick, Phase.OPTIMIZE, "zombie").job_path(attempt(task, 1))
    with worker_process(quick, "zombie", "wait_for_go", "write") as zombie:
        await eventually(lambda: asyncio.to_thread((job / "out").exists), "the program to run")
        await eventually(lambda: is_busy(running, "zombie", 1), "a heartbeat")
        zombie.send_signal(signal.SIGSTOP)
        if ends_meanwhile:
            (job / "go").touch()
            await eventually(lambda: asyncio.to_thread((job / "result.json").exists), "the program's result")
        with worker_process(quick, "heir", "write"):
            await running.until(task, "TRAINING", within=40)
        before = await what_stands(running, task)
        zombie.send_signal(signal.SIGCONT)
        await eventually(lambda: is_busy(running, "zombie", 0), "the zombie to let its attempt go")
        await all_events_are_heard(running, task)
    assert [run.state for run in before["runs"][:2]] == [RunState.LOST, RunState.COMPLETED]
    assert before["artifact"]
    assert await what_stands(running, task) == before


async def test_a_cancel_while_the_command_is_queued_keeps_the_program_from_starting(
    running: Running, quick: Settings
) -> None:
    cancelled = await a_started_task(running)
    await running.control.submissions.request(CancelTask(task_id=cancelled))
    bus = connect(quick)
    await bus.start()
    host = WorkerHost(scripted_optimizer("write"), bus, running.objects, quick)
    await host.start()
    behind = await a_started_task(running)
    await running.until(behind, "TRAINING", within=40)
    await host.stop()
    await bus.close()
    (run,) = await running.store.runs(cancelled)
    assert (run.state, run.claimed_at) == (RunState.CANCELLED, None)
    assert await running.objects.names(attempt_prefix(run.key)) == []
