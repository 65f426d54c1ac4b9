"""A worker whose machine is broken takes no commands, says why, and comes back; another worker does the work."""

from __future__ import annotations

import asyncio
import errno
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from contracts.events import PhaseFailed
from contracts.tasks import FailureKind
from infra.child import process as child_process
from infra.settings import Settings
from infra.worker import fitness
from infra.worker.disk import Disks
from tests.eventually import eventually
from tests.fake_control import FakeControl, Script, job_of
from tests.integration.worker.conftest import Running

FULL = "has 5 MiB free in /work, needs 1 GiB"


class SwitchedDisks:
    """The disks of the worker "sick", which a test fills and empties; those of other workers have room."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.found: str | None = None

        def problem(disks: Disks, *, was_full: bool = False) -> str | None:
            return self.found if disks.folder.name == "sick" else None

        monkeypatch.setattr(Disks, "problem", problem)


@pytest.fixture
def disks(monkeypatch: pytest.MonkeyPatch) -> SwitchedDisks:
    monkeypatch.setattr(fitness, "CHECK_INTERVAL", 0.02)
    return SwitchedDisks(monkeypatch)


@pytest.fixture
def sick(worker_settings: Settings) -> Settings:
    return worker_settings.model_copy(update={"worker_id": "sick"})


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 6 MB."""
    folder = tmp_path / "small"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=6m,mode=0700", "tmpfs", str(folder)]
    mounted = subprocess.run(command, capture_output=True, text=True, check=False)
    if mounted.returncode:
        pytest.skip(f"a small disk cannot be mounted here: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def told(control: FakeControl, worker_id: str) -> list[str | None]:
    """What a worker told control about its fitness, request by request."""
    return [request.worker.unfit for request in control.requests if request.worker.worker_id == worker_id]


async def test_a_worker_with_a_full_disk_leaves_the_commands_to_another_and_comes_back(
    control: FakeControl, script: Script, running: Running, worker_settings: Settings, sick: Settings, small_disk: Path
) -> None:
    on_small_disk = sick.model_copy(update={"work_dir": small_disk / "work"})
    async with running(on_small_disk) as small:
        await asyncio.to_thread((small_disk / "ballast").write_bytes, bytes(6_100_000))
        async with running(worker_settings):
            for _ in range(4):
                await control.order(script.command("write"))
            await control.until(lambda: len(control.events) == 4)
        assert {event.kind for event in control.events} == {"model_trained"}
        assert {event.worker_id for event in control.events} == {"w"}
        assert str(told(control, "sick")[-1]).startswith("has ")
        await control.order(script.command("write"))
        (small_disk / "ballast").unlink()
        small._fitness._check_needed.set()  # instead of waiting for the next regular check
        await control.until(lambda: len(control.events) == 5)
    assert (control.events[-1].worker_id, control.events[-1].kind) == ("sick", "model_trained")


async def test_a_worker_tells_control_at_once_why_it_takes_no_commands(
    control: FakeControl, script: Script, running: Running, sick: Settings, disks: SwitchedDisks
) -> None:
    disks.found = FULL
    async with running(sick.model_copy(update={"train_ttl": 300.0})) as host:
        await control.until(lambda: told(control, "sick")[-1:] == [FULL])
        assert not host.ready
        await control.order(script.command("write"))
        assert await control.waiting() == 1
        control.ttl = 300.0
        disks.found = None
        await control.until(lambda: control.events)
    assert told(control, "sick")[-1] is None


async def test_the_running_attempts_of_an_unfit_worker_go_on(
    control: FakeControl, script: Script, running: Running, sick: Settings, disks: SwitchedDisks
) -> None:
    command = script.command("wait_for_go", "write")
    async with running(sick):
        await control.order(command)
        await control.until(lambda: any(step.stage == "waiting" for step in control.progress))
        disks.found = FULL
        await control.until(lambda: told(control, "sick")[-1] == FULL)
        job = job_of(sick, command)
        (job.parents[2] / "sick" / "jobs" / job.name / "go").touch()
        await control.until(lambda: control.events)
    assert control.events[0].kind == "model_trained"


@pytest.mark.usefixtures("host")
async def test_a_program_that_meets_a_full_disk_fails_by_the_machines_fault(
    control: FakeControl, script: Script, worker_settings: Settings
) -> None:
    command = script.command("disk_full")
    await control.order(command)
    await control.until(lambda: control.events)
    event = control.events[0]
    assert isinstance(event, PhaseFailed)
    assert (event.failure, event.message) == (
        FailureKind.WORKER_UNFIT,
        "OSError: [Errno 28] No space left on device",
    )

    async def removed() -> bool:
        return not await asyncio.to_thread(job_of(worker_settings, command).exists)

    await eventually(removed, "the folder of the job to be removed, because it takes room")


async def test_a_crash_on_a_machine_that_turns_out_to_be_full_is_the_machines_fault(
    control: FakeControl, script: Script, running: Running, sick: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    problems = iter([None] * 2)
    monkeypatch.setattr(Disks, "problem", lambda *_, **__: next(problems, FULL))
    async with running(sick):
        await control.order(script.command("crash"))
        await control.until(lambda: control.events)
    event = control.events[0]
    assert isinstance(event, PhaseFailed)
    assert event.failure is FailureKind.WORKER_UNFIT
    assert event.message.startswith(f"worker sick {FULL}; the attempt ended with: the program crashed")


@pytest.mark.usefixtures("host")
async def test_a_crash_on_a_sound_machine_stays_a_crash(control: FakeControl, script: Script) -> None:
    await control.order(script.command("crash"))
    await control.until(lambda: control.events)
    event = control.events[0]
    assert isinstance(event, PhaseFailed)
    assert event.failure is FailureKind.PROGRAM_CRASHED


@pytest.mark.usefixtures("host")
@pytest.mark.parametrize("number", [errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENOSPC])
async def test_a_process_that_cannot_be_started_is_the_machines_fault(
    control: FakeControl, script: Script, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    async def refuse(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(child_process.asyncio, "create_subprocess_exec", refuse)
    await control.order(script.command("write"))
    await control.until(lambda: control.events)
    event = control.events[0]
    assert isinstance(event, PhaseFailed)
    assert event.failure is FailureKind.WORKER_UNFIT


async def test_a_sick_worker_does_not_fail_everything_that_it_is_given(
    control: FakeControl, script: Script, running: Running, sick: Settings
) -> None:
    async with running(sick):
        for _ in range(6):
            await control.order(script.command("disk_full"))
        await control.until(lambda: str((told(control, "sick") or [None])[-1]).startswith("rests for 10 s"))
    assert len(control.events) == fitness.FAULTS_BEFORE_REST
    assert await control.waiting() == 6 - fitness.FAULTS_BEFORE_REST


async def test_a_program_whose_package_is_missing_is_the_machines_fault(tmp_path: Path) -> None:
    problem = await child_process.start_problem("tests.programs.needs_a_package", tmp_path)
    assert problem == "cannot start its program: ModuleNotFoundError: No module named 'a_package_that_is_missing'"
    assert await child_process.start_problem("tests.programs.scripted", tmp_path) is None
    assert os.listdir(tmp_path) == []
