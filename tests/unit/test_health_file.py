"""The file of a worker's health is fresh if and only if the worker is healthy and its event loop runs."""

from __future__ import annotations

import asyncio
import os
import subprocess
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from infra.worker import health
from infra.worker.health import HealthFile
from tests.eventually import eventually

INTERVAL = 0.01


class Worker:
    """Is healthy or not, as a test says, and counts the questions."""

    def __init__(self) -> None:
        self.healthy = True
        self.asked = 0

    def __call__(self) -> bool:
        self.asked += 1
        return self.healthy

    async def until_asked_again(self) -> None:
        asked = self.asked

        async def answered() -> bool:
            return self.asked >= asked + 2

        await eventually(answered, "the next update")


@pytest.fixture
def worker() -> Worker:
    return Worker()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "healthy"


@pytest.fixture
async def file(worker: Worker, path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[HealthFile]:
    monkeypatch.setattr(health, "INTERVAL", INTERVAL)
    file = HealthFile(path, worker)
    file.start()
    await worker.until_asked_again()
    yield file
    await file.stop()


def age(path: Path) -> None:
    """Make the file look two minutes old."""
    path.touch()
    os.utime(path, (time.time() - 120,) * 2)


def is_there(path: Path) -> bool:
    return path.exists()


def passes_check(path: Path) -> bool:
    """Whether the health check of compose.yaml passes for this file."""
    return subprocess.run(["sh", "-c", f'test -n "$(find {path} -mmin -1)"'], capture_output=True).returncode == 0


@pytest.mark.usefixtures("file")
async def test_the_file_of_a_healthy_worker_stays_fresh(worker: Worker, path: Path) -> None:
    age(path)
    await worker.until_asked_again()
    assert passes_check(path)


@pytest.mark.usefixtures("file")
async def test_the_file_of_an_unhealthy_worker_grows_old(worker: Worker, path: Path) -> None:
    worker.healthy = False
    await worker.until_asked_again()
    age(path)
    await worker.until_asked_again()
    assert not passes_check(path)


@pytest.mark.usefixtures("file")
async def test_the_file_of_a_hung_event_loop_grows_old(path: Path) -> None:
    age(path)
    time.sleep(5 * INTERVAL)  # noqa: ASYNC251  # the loop hangs
    assert not passes_check(path)


async def test_the_file_is_gone_when_the_worker_has_stopped(file: HealthFile, path: Path) -> None:
    await file.stop()
    assert not is_there(path)
    assert not passes_check(path)


async def test_the_file_of_an_earlier_process_does_not_count(worker: Worker, path: Path) -> None:
    worker.healthy = False
    age(path)
    file = HealthFile(path, worker)
    file.start()
    await asyncio.sleep(0)
    assert not is_there(path)
    await file.stop()


async def test_a_file_that_cannot_be_written_is_logged_once_and_tried_again(
    worker: Worker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health, "INTERVAL", INTERVAL)
    path = tmp_path / "missing" / "healthy"
    file = HealthFile(path, worker)
    with capture_logs() as logs:
        file.start()
        await worker.until_asked_again()
        await worker.until_asked_again()
    path.parent.mkdir()
    await worker.until_asked_again()
    assert [line["event"] for line in logs] == ["health_file_not_written"]
    assert passes_check(path)
    await file.stop()
