"""How a program runs as a child process, and every way in which it may end."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest

from contracts.tasks import FailureKind
from infra.child import process as child_module
from infra.child.environment import child_environment
from infra.child.leftovers import SUFFIX, end_leftovers, record_process
from infra.child.outcome import ExitKind, ProgramExit
from infra.child.process import LOG, ChildProcess
from infra.child.progress import ProgressLine
from tests.eventually import eventually
from tests.programs.scripted import Action, Spec

MODULE = "tests.programs.scripted"


@pytest.fixture
def job(tmp_path: Path) -> Path:
    folder = tmp_path / "job"
    folder.mkdir()
    return folder


async def run(job: Path, *actions: Action, steps: list[ProgressLine] | None = None) -> ProgramExit:
    (job / "spec.json").write_text(Spec(actions=list(actions)).model_dump_json())
    child = await ChildProcess.start(MODULE, job.parent, grace=5)
    return await child.run(job, steps.append if steps is not None else lambda _: None)


@pytest.fixture
async def waiting(
    job: Path, request: pytest.FixtureRequest
) -> AsyncIterator[tuple[ChildProcess, asyncio.Task[ProgramExit]]]:
    """A child that runs the actions of the parameter and has reported progress."""
    (job / "spec.json").write_text(Spec(actions=list(request.param)).model_dump_json())
    child = await ChildProcess.start(MODULE, job.parent, grace=0.5)
    working = asyncio.Event()
    running = asyncio.create_task(child.run(job, lambda _: working.set()))
    await working.wait()
    yield child, running
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_a_program_that_succeeds_leaves_its_output_and_result(job: Path) -> None:
    assert (await run(job, "write")).outcome is ExitKind.SUCCEEDED
    assert (job / "out" / "answer.txt").read_text() == "42"
    assert (job / "result.json").read_text() == '{"answer":42}'


async def test_progress_lines_arrive_in_order(job: Path) -> None:
    steps: list[ProgressLine] = []
    await run(job, "progress", steps=steps)
    assert [step.done for step in steps] == list(range(1, 201))


async def test_the_output_of_a_library_goes_to_the_log(job: Path) -> None:
    steps: list[ProgressLine] = []
    await run(job, "noise", steps=steps)
    assert steps == []
    assert set((job / LOG).read_text().split("\n")) >= {"a library's chatter", "a warning"}


@pytest.mark.parametrize(
    ("action", "kind", "words"),
    [
        ("bad_input", FailureKind.BAD_INPUT, "line 3 is no JSON"),
        ("crash", FailureKind.PROGRAM_CRASHED, "ValueError: the loss is not a number"),
        ("memory_error", FailureKind.OUT_OF_MEMORY, "out of memory"),
        ("torch_memory_error", FailureKind.OUT_OF_MEMORY, "out of memory: CUDA out of memory."),
        ("killed", FailureKind.OUT_OF_MEMORY, "killed by the system"),
        ("segfault", FailureKind.PROGRAM_CRASHED, "SIGSEGV"),
        ("no_result", FailureKind.PROGRAM_CRASHED, "status 0"),
    ],
)
async def test_every_failure_has_a_kind_and_a_message(job: Path, action: Action, kind: FailureKind, words: str) -> None:
    ended = await run(job, action)
    assert ended.failure is not None
    assert ended.failure.failure is kind
    assert words in ended.failure.message


async def test_a_failure_names_its_field(job: Path) -> None:
    ended = await run(job, "bad_input")
    assert ended.failure is not None
    assert ended.failure.field == "data.jsonl:3"


async def test_a_crash_keeps_its_traceback_in_the_log_only(job: Path) -> None:
    ended = await run(job, "crash")
    assert ended.failure is not None
    assert "Traceback" not in ended.failure.message
    assert "Traceback" in (job / LOG).read_text()


async def test_a_spec_that_does_not_fit_is_a_bad_configuration(job: Path) -> None:
    (job / "spec.json").write_text('{"actions": ["dance"]}')
    child = await ChildProcess.start(MODULE, job.parent, grace=5)
    ended = await child.run(job, lambda _: None)
    assert ended.failure is not None
    assert ended.failure.failure is FailureKind.BAD_CONFIGURATION


async def test_a_module_that_cannot_be_imported_is_a_crash_with_its_reason(job: Path) -> None:
    child = await ChildProcess.start("tests.programs.missing", job.parent, grace=5)
    ended = await child.run(job, lambda _: None)
    assert ended.failure is not None
    assert "No module named 'tests.programs.missing'" in ended.failure.message


@pytest.mark.parametrize("waiting", [("wait_for_stop",)], indirect=True)
async def test_a_stopped_program_may_finish_its_step(waiting: tuple[ChildProcess, asyncio.Task[ProgramExit]]) -> None:
    child, running = waiting
    await child.stop()
    assert (await running).outcome is ExitKind.STOPPED


@pytest.mark.parametrize("waiting", [("grandchild", "ignore_stop")], indirect=True)
async def test_a_program_that_ignores_a_stop_is_killed_with_its_own_child_processes(
    waiting: tuple[ChildProcess, asyncio.Task[ProgramExit]], job: Path
) -> None:
    child, running = waiting
    grandchild = psutil.Process(int((job / "grandchild").read_text()))
    await child.stop()
    assert (await running).outcome is ExitKind.STOPPED
    await asyncio.to_thread(grandchild.wait, 5)


@pytest.mark.parametrize("waiting", [("grandchild", "ignore_stop")], indirect=True)
async def test_the_end_of_a_child_is_detected_although_a_grandchild_holds_its_output(
    waiting: tuple[ChildProcess, asyncio.Task[ProgramExit]],
) -> None:
    child, running = waiting
    os.kill(child.pid, signal.SIGKILL)
    ended = await asyncio.wait_for(running, 5)
    assert ended.failure is not None
    assert ended.failure.failure is FailureKind.OUT_OF_MEMORY


async def test_a_daemon_that_holds_the_output_of_a_child_does_not_delay_its_end(
    job: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(child_module, "OUTPUT_TIMEOUT", 0.1)
    ended = await asyncio.wait_for(run(job, "daemon", "write"), 10)
    end_leftovers(job.parent)
    assert ended.outcome is ExitKind.SUCCEEDED


async def test_modules_in_the_working_directory_of_the_worker_are_not_imported(
    job: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere" / "infra").mkdir(parents=True)
    (tmp_path / "elsewhere" / "infra" / "__init__.py").touch()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert (await run(job, "write")).outcome is ExitKind.SUCCEEDED


@pytest.mark.parametrize("waiting", [("ignore_stop",)], indirect=True)
async def test_cancelling_a_run_ends_the_child(waiting: tuple[ChildProcess, asyncio.Task[ProgramExit]]) -> None:
    child, running = waiting
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert not child.alive


def test_a_child_gets_no_secrets_in_its_environment() -> None:
    own = {
        "PATH": "/bin",
        "HF_TOKEN": "t",
        "TREADLE_S3_SECRET_KEY": "s",
        "AWS_ACCESS_KEY_ID": "a",
        "PGPASSWORD": "p",
        "MY_API_KEY": "k",
    }
    given = child_environment(own)
    assert set(given) & set(own) == {"PATH", "HF_TOKEN"}
    assert given["DO_NOT_TRACK"] == given["HF_HUB_DISABLE_TELEMETRY"] == "1"


async def test_temporary_files_of_a_program_are_in_the_workers_folder_and_are_deleted(job: Path) -> None:
    await run(job, "temporary")
    left = Path((job / "out" / "temporary.txt").read_text())
    assert left.is_relative_to(job.parent)
    assert not await asyncio.to_thread(left.parent.exists)


PARENT = """
import asyncio, sys
from pathlib import Path
from infra.child.process import ChildProcess

async def main(job):
    child = await ChildProcess.start("tests.programs.scripted", job.parent, 5)
    await child.run(job, lambda _: print(child.pid, flush=True))

asyncio.run(main(Path(sys.argv[1])))
"""


@pytest.fixture
async def orphaned(job: Path) -> AsyncIterator[psutil.Process]:
    """A child that has started a grandchild, and whose parent was killed during the job."""
    (job / "spec.json").write_text(Spec(actions=["grandchild", "ignore_stop"]).model_dump_json())
    parent = await asyncio.create_subprocess_exec(sys.executable, "-c", PARENT, str(job), stdout=subprocess.PIPE)
    assert parent.stdout is not None
    child = psutil.Process(int(await parent.stdout.readline()))
    parent.kill()
    await parent.wait()
    yield child
    end_leftovers(job.parent)


BLOCKED = """
import os, signal
from pathlib import Path
if "child-" in (temporary := os.environ.get("TMPDIR", "")):
    Path(temporary).with_name("blocked").touch()
    signal.pause()
"""
"""Stops a child before it runs any code of Treadle; Python imports it at its start."""


async def test_a_child_that_has_not_run_any_code_dies_with_its_parent(
    job: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sitecustomize.py").write_text(BLOCKED)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{os.environ['PYTHONPATH']}")
    script = PARENT.replace("    await child.run", "    print(child.pid, flush=True)\n    await child.run")
    parent = await asyncio.create_subprocess_exec(sys.executable, "-c", script, str(job), stdout=subprocess.PIPE)
    assert parent.stdout is not None
    child = psutil.Process(int(await parent.stdout.readline()))
    await eventually(lambda: asyncio.to_thread((job.parent / "blocked").exists), "the child", 20)
    parent.kill()
    await parent.wait()
    await asyncio.to_thread(child.wait, 5)


def test_a_child_whose_parent_has_ended_does_not_import_its_program(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "endless.py").write_text("import signal; signal.pause()")
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{os.environ['PYTHONPATH']}")
    command = [sys.executable, "-m", "infra.child.program", "endless"]
    assert subprocess.run(command, input=b"", timeout=20).returncode == 0


def is_alive(pid: int) -> bool:
    """Whether a process exists and is not a zombie; the child itself may have ended its group before it died."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


async def test_a_child_dies_with_its_parent(orphaned: psutil.Process) -> None:
    await asyncio.to_thread(orphaned.wait, 5)


async def test_processes_that_a_dead_worker_left_running_are_ended(orphaned: psutil.Process, job: Path) -> None:
    await asyncio.to_thread(orphaned.wait, 5)
    grandchild = int((job / "grandchild").read_text())
    end_leftovers(job.parent)
    assert not is_alive(grandchild)


async def test_a_process_that_got_the_id_of_a_leftover_is_not_ended(tmp_path: Path) -> None:
    other = await asyncio.create_subprocess_exec("sleep", "60", start_new_session=True)
    record = tmp_path / f"child-1{SUFFIX}"
    record_process(other.pid, record)
    record.write_text(record.read_text().replace('"started":', '"started":1'))
    end_leftovers(tmp_path)
    assert is_alive(other.pid)
    assert not record.exists()
    other.kill()
    await other.wait()


async def test_a_process_of_another_container_with_the_same_disk_is_not_ended(tmp_path: Path) -> None:
    other = await asyncio.create_subprocess_exec("sleep", "60", start_new_session=True)
    record = tmp_path / f"child-1{SUFFIX}"
    record_process(other.pid, record)
    record.write_text(record.read_text().replace("pid:[", "pid:[1"))
    end_leftovers(tmp_path)
    assert is_alive(other.pid)
    other.kill()
    await other.wait()


async def test_a_job_with_variables_that_imports_read_has_them_in_its_environment(job: Path) -> None:
    (job / "spec.json").write_text(Spec(actions=["environment"]).model_dump_json())
    child = await ChildProcess.start(MODULE, job.parent, 5, variables={"OMP_NUM_THREADS": "3"})
    await child.run(job, lambda _: None)
    assert "OMP_NUM_THREADS" in (job / "out" / "environment.txt").read_text().split("\n")


async def test_the_work_of_a_program_is_measured_without_its_imports(job: Path) -> None:
    ended = await run(job, "short_work")
    assert 0.3 <= ended.work_seconds < ended.seconds
