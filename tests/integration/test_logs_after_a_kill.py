"""The log of an attempt whose worker was killed: what was uploaded before stays, whatever later attempts do."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from control.machine.machine import AttemptState
from infra.settings import Settings
from tests.eventually import eventually
from tests.integration.control_parts import Running, control_running
from tests.integration.test_zombies import QUICK, attempt, start_task, worker_process
from tests.programs.worker import UPLOAD_INTERVAL


@pytest.fixture
def quick(settings: Settings) -> Settings:
    return settings.model_copy(update=QUICK)


@pytest_asyncio.fixture
async def running(quick: Settings) -> AsyncIterator[Running]:
    """Control with leases of one second."""
    async with control_running(quick) as running:
        yield running


async def test_the_log_of_an_attempt_stays_after_its_worker_was_killed(
    running: Running, quick: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(UPLOAD_INTERVAL, "0.05")
    task = await start_task(running)

    async def log(number: int) -> str:
        answer = await running.http.get(f"/api/tasks/{task}/attempts/{attempt(task, number).name}/log")
        return answer.text if answer.status_code == 200 else ""

    with worker_process(quick, "first", "noise", "wait_for_go") as worker:
        before = await eventually(lambda: log(1), "the log", 40)
        worker.send_signal(signal.SIGKILL)
        await asyncio.to_thread(worker.wait)
    with worker_process(quick, "second", "crash"):
        after = await eventually(lambda: log(2), "the log of the next attempt", 40)
    first, *_ = await running.store.attempts(task)
    assert first.state is AttemptState.LOST
    assert (before, await log(1)) == ("a library's chatter\na warning\n", before)
    assert "ValueError" in after
