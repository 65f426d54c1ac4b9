"""Programs that are forked from a process which has imported them, and every way in which one of the three may die."""

import asyncio
import errno
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

from contracts.events import PhaseFailed
from contracts.tasks import FailureKind
from infra.child import process
from infra.child.fork_server import client
from infra.child.fork_server.client import MAX_STARTS, ForkServer
from infra.child.outcome import ExitKind, ProgramExit
from infra.child.process import ChildProcess
from infra.objects import ObjectStore
from infra.settings import Settings
from infra.worker.host import WorkerHost
from tests.eventually import eventually
from tests.fake_control import FakeControl, Script
from tests.programs.scripted import Action, Spec

MODULE, TRAINS, CUDA = "tests.programs.scripted", "tests.programs.trains", "tests.programs.initializes_cuda"
PROGRAMS = (
    "trainer_worker.programs.train",
    "evaluator_worker.programs.evaluate",
    "optimizer_worker.programs.optimize",
)
Jobs = Callable[..., Path]


@asynccontextmanager
async def serving(*modules: str) -> AsyncIterator[ForkServer]:
    server = ForkServer(modules)
    await server.start()
    try:
        yield server
    finally:
        await server.close()


@pytest.fixture
async def server() -> AsyncIterator[ForkServer]:
    """A fork server with the scripted program."""
    async with serving(MODULE) as server:
        yield server


@pytest.fixture
def job_of(tmp_path: Path) -> Jobs:
    """Makes the folder of a job whose program does the given actions."""

    def make(*actions: Action, name: str = "job", **spec: Any) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        content = Spec(actions=list(actions)).model_dump_json() if actions else json.dumps(spec)
        (folder / "spec.json").write_text(content)
        return folder

    return make


async def start(server: ForkServer, folder: Path, module: str = MODULE) -> ChildProcess:
    return await ChildProcess.start(module, folder.parent, 0.5, fork_server=server)


async def run(server: ForkServer, folder: Path, module: str = MODULE) -> ProgramExit:
    child = await start(server, folder, module)
    return await child.run(folder, lambda _: None)


@asynccontextmanager
async def at_work(server: ForkServer, folder: Path) -> AsyncIterator[tuple[ChildProcess, asyncio.Task[ProgramExit]]]:
    """A forked program that has reported progress."""
    child = await start(server, folder)
    working = asyncio.Event()
    running = asyncio.create_task(child.run(folder, lambda _: working.set()))
    await asyncio.wait_for(working.wait(), 20)
    try:
        yield child, running
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


def parent_of(child: ChildProcess) -> int:
    return psutil.Process(child.pid).ppid()


def is_alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


async def ended(pid: int, what: str) -> None:
    await eventually(lambda: asyncio.to_thread(lambda: not is_alive(pid)), what)


async def test_a_program_is_a_child_of_the_server_and_leaves_no_files_behind(server: ForkServer, job_of: Jobs) -> None:
    job = job_of("wait_for_stop")
    async with at_work(server, job) as (child, running):
        assert parent_of(child) == server.pid
        await child.stop()
        assert (await running).outcome is ExitKind.STOPPED
    assert [path.name for path in job.parent.iterdir()] == ["job"]


@pytest.mark.parametrize(
    ("action", "kind", "words"),
    [
        ("bad_input", FailureKind.BAD_INPUT, "line 3 is no JSON"),
        ("crash", FailureKind.PROGRAM_CRASHED, "ValueError: the loss is not a number"),
        ("killed", FailureKind.OUT_OF_MEMORY, "killed by the system"),
        ("segfault", FailureKind.PROGRAM_CRASHED, "SIGSEGV"),
        ("no_result", FailureKind.PROGRAM_CRASHED, "status 0"),
        ("disk_full", FailureKind.WORKER_UNFIT, "No space left on device"),
    ],
)
async def test_a_forked_program_fails_as_an_executed_one(
    server: ForkServer, job_of: Jobs, action: Action, kind: FailureKind, words: str
) -> None:
    end = await run(server, job_of(action))
    assert end.failure is not None
    assert (end.failure.failure, words in end.failure.message) == (kind, True)


async def test_temporary_files_of_a_forked_program_are_deleted(server: ForkServer, job_of: Jobs) -> None:
    job = job_of("temporary")
    await run(server, job)
    left = Path((job / "out" / "temporary.txt").read_text())
    assert left.is_relative_to(job.parent)
    assert not await asyncio.to_thread(left.parent.exists)


async def test_a_forked_program_gets_no_secrets_in_its_environment(
    job_of: Jobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TREADLE_S3_SECRET_KEY", "s")
    job = job_of("environment")
    async with serving(MODULE) as server:
        await run(server, job)
    names = (job / "out" / "environment.txt").read_text().split("\n")
    assert [name for name in names if name.startswith(("TREADLE_", "OPENBLAS_", "PYTORCH_"))] == []


async def test_a_program_ends_when_its_input_ends_although_others_run(server: ForkServer, job_of: Jobs) -> None:
    first_job, second_job = job_of("ignore_stop", name="first"), job_of("ignore_stop", name="second")
    async with at_work(server, first_job) as (first, ending), at_work(server, second_job) as (second, _):
        first._pipes.close()
        await asyncio.wait_for(ending, 10)
        assert second.alive


async def test_a_forked_program_that_ignores_a_stop_is_killed_with_its_own_child_processes(
    server: ForkServer, job_of: Jobs
) -> None:
    job = job_of("grandchild", "ignore_stop")
    async with at_work(server, job) as (child, running):
        await child.stop()
        assert (await running).outcome is ExitKind.STOPPED
    await ended(int((job / "grandchild").read_text()), "the grandchild to end")


async def test_a_killed_program_leaves_the_server_and_no_process_of_its_own(server: ForkServer, job_of: Jobs) -> None:
    job, pid = job_of("grandchild", "ignore_stop"), server.pid
    async with at_work(server, job) as (child, running):
        os.kill(child.pid, signal.SIGKILL)
        end = await asyncio.wait_for(running, 5)
    assert end.failure is not None
    assert end.failure.failure is FailureKind.OUT_OF_MEMORY
    await ended(int((job / "grandchild").read_text()), "the grandchild to end")
    assert server.pid == pid


async def test_the_programs_of_a_killed_server_end_as_lost_and_a_new_server_runs_the_next_job(
    server: ForkServer, job_of: Jobs
) -> None:
    job, old = job_of("grandchild", "ignore_stop"), server.pid
    assert old is not None
    async with at_work(server, job) as (child, running):
        os.kill(old, signal.SIGKILL)
        end = await asyncio.wait_for(running, 10)
    assert end.failure is not None
    assert end.failure.failure is FailureKind.LEASE_LOST
    assert "fork server" in end.failure.message
    await ended(child.pid, "the program to end")
    await ended(int((job / "grandchild").read_text()), "the grandchild to end")
    async with at_work(server, job_of("wait_for_stop", name="next")) as (following, _):
        assert parent_of(following) == server.pid != old


async def test_a_stop_during_which_the_server_dies_still_ends_as_stopped(server: ForkServer, job_of: Jobs) -> None:
    assert server.pid is not None
    async with at_work(server, job_of("ignore_stop")) as (child, running):
        child._grace = 30
        stopping = asyncio.create_task(child.stop())
        await asyncio.sleep(0)
        os.kill(server.pid, signal.SIGKILL)
        assert (await asyncio.wait_for(running, 10)).outcome is ExitKind.STOPPED
        await stopping


WORKER = """
import asyncio, sys
from pathlib import Path
from infra.child.fork_server.client import ForkServer
from infra.child.process import ChildProcess

async def main(job):
    server = ForkServer(["tests.programs.scripted"])
    child = await ChildProcess.start("tests.programs.scripted", job.parent, 5, fork_server=server)
    await child.run(job, lambda _: print(server.pid, child.pid, flush=True))

asyncio.run(main(Path(sys.argv[1])))
"""


async def test_a_killed_worker_leaves_neither_server_nor_programs(job_of: Jobs) -> None:
    job = job_of("grandchild", "ignore_stop")
    worker = await asyncio.create_subprocess_exec(sys.executable, "-c", WORKER, str(job), stdout=subprocess.PIPE)
    assert worker.stdout is not None
    pids = [int(pid) for pid in (await worker.stdout.readline()).split()]
    worker.kill()
    await worker.wait()
    for pid in (*pids, int((job / "grandchild").read_text())):
        await ended(pid, f"process {pid} to end")


async def test_a_worker_that_is_killed_during_the_imports_leaves_no_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "endless.py").write_text("import signal; signal.pause()")
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{os.environ['PYTHONPATH']}")
    script = """
import asyncio
from infra.child.fork_server.client import ForkServer

async def main():
    server = ForkServer(["endless"])
    await server.start()
    print(server.pid, flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""
    worker = await asyncio.create_subprocess_exec(sys.executable, "-c", script, stdout=subprocess.PIPE)
    assert worker.stdout is not None
    pid = int(await worker.stdout.readline())
    worker.kill()
    await worker.wait()
    await ended(pid, "the server to end")


async def test_a_program_that_the_server_has_not_imported_is_executed(server: ForkServer, job_of: Jobs) -> None:
    end = await run(server, job_of(), CUDA)
    assert end.outcome is ExitKind.SUCCEEDED


async def test_a_server_that_cannot_import_is_given_up_and_the_program_gives_the_reason(job_of: Jobs) -> None:
    missing = "tests.programs.needs_a_package"
    async with serving(missing) as server:
        await eventually(lambda: asyncio.to_thread(lambda: server.pid is None), "the server to be given up", 40)
        end = await run(server, job_of(), missing)
    assert end.failure is not None
    assert end.failure.failure is FailureKind.WORKER_UNFIT
    assert MAX_STARTS == 3


async def test_a_job_that_is_ordered_during_failing_imports_is_executed(job_of: Jobs) -> None:
    missing = "tests.programs.needs_a_package"
    async with serving(missing) as server:
        end = await run(server, job_of(), missing)
    assert end.failure is not None
    assert end.failure.failure is FailureKind.WORKER_UNFIT


async def test_a_signal_to_stop_that_reaches_the_server_leaves_its_programs(server: ForkServer, job_of: Jobs) -> None:
    async with at_work(server, job_of("wait_for_stop")) as (child, running):
        assert server.pid is not None
        os.kill(server.pid, signal.SIGTERM)
        await child.stop()
        assert (await running).outcome is ExitKind.STOPPED
        assert is_alive(server.pid)


async def test_a_killed_program_whose_end_a_stuck_server_does_not_report_ends_as_stopped(
    server: ForkServer, job_of: Jobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "KILL_TIMEOUT", 0.5)
    async with at_work(server, job_of("ignore_stop")) as (child, running):
        assert server.pid is not None
        os.kill(server.pid, signal.SIGSTOP)
        await asyncio.wait_for(child.stop(), 10)
        assert (await running).outcome is ExitKind.STOPPED


async def test_a_process_that_cannot_be_recorded_is_ended(
    server: ForkServer, job_of: Jobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "the disk is full")

    monkeypatch.setattr(process, "record_process", full)
    job = job_of("write")
    with pytest.raises(OSError, match="full"):
        await start(server, job)
    assert [path.name for path in job.parent.iterdir()] == ["job"]
    assert server.pid is not None
    own = psutil.Process(server.pid)
    await eventually(lambda: asyncio.to_thread(lambda: not own.children()), "the process to end")


async def test_a_server_that_answers_nothing_is_killed_and_the_program_executed(
    server: ForkServer, job_of: Jobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "IMPORT_TIMEOUT", 0.5)
    first = server.pid
    assert first is not None
    await run(server, job_of("write", name="first"))
    os.kill(first, signal.SIGSTOP)
    assert (await run(server, job_of("write"))).outcome is ExitKind.SUCCEEDED
    await eventually(lambda: asyncio.to_thread(lambda: server.pid not in {None, first}), "another server")


async def test_a_program_whose_imports_initialized_cuda_does_its_own_imports(job_of: Jobs) -> None:
    job = job_of()
    async with serving(CUDA) as server:
        await run(server, job, CUDA)
    assert json.loads((job / "result.json").read_text()) == {"own_imports": True}


async def test_a_cancelled_order_leaves_no_process(server: ForkServer, job_of: Jobs) -> None:
    job = job_of("write")
    ordering = asyncio.create_task(start(server, job))
    await asyncio.sleep(0)
    ordering.cancel()
    await asyncio.gather(ordering, return_exceptions=True)
    assert server.pid is not None
    await run(server, job)
    own = psutil.Process(server.pid)
    await eventually(lambda: asyncio.to_thread(lambda: not own.children()), "all programs to end")


async def test_closing_ends_the_server(server: ForkServer) -> None:
    pid = server.pid
    await server.close()
    assert pid is not None
    assert not is_alive(pid)


async def test_the_server_of_all_real_programs_has_one_thread_and_its_children_train_with_two(job_of: Jobs) -> None:
    job = job_of(threads=2)
    async with serving(*PROGRAMS, TRAINS) as server:
        end = await run(server, job, TRAINS)
        assert len(await asyncio.to_thread(os.listdir, f"/proc/{server.pid}/task")) == 1
    assert end.outcome is ExitKind.SUCCEEDED, (job / "log.txt").read_text()
    result = json.loads((job / "result.json").read_text())
    assert result["last_loss"] < result["first_loss"]
    assert result["threads"] >= 1
    assert result["blas_threads"] == len(os.sched_getaffinity(0))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
async def test_a_forked_program_trains_on_a_gpu(job_of: Jobs) -> None:
    job = job_of(device="cuda")
    async with serving(*PROGRAMS, TRAINS) as server:
        end = await run(server, job, TRAINS)
    assert end.outcome is ExitKind.SUCCEEDED, (job / "log.txt").read_text()
    assert end.accelerators == 1


async def test_an_attempt_whose_server_is_killed_is_reported_as_lost_with_its_checkpoint(
    control: FakeControl, script: Script, objects: ObjectStore, worker_settings: Settings, server: ForkServer
) -> None:
    host = WorkerHost(script.worker, control.bus, objects, worker_settings, server)
    await host.start()
    await control.order(script.command("checkpoints", "wait_for_stop"))
    await control.until(lambda: any(step.stage == "waiting" for step in control.progress))
    assert server.pid is not None
    os.kill(server.pid, signal.SIGKILL)
    await control.until(lambda: control.events)
    await host.stop()
    (event,) = control.events
    assert isinstance(event, PhaseFailed)
    assert event.failure is FailureKind.LEASE_LOST
    assert event.checkpoint is not None
