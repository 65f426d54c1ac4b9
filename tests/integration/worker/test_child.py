"""How a program runs as a child, and every way in which it may end."""

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
from infra.child.environment import child_environment, end_leftovers
from infra.child.outcome import Ended, Outcome
from infra.child.process import LOG, Child, Children, Step
from tests.programs.scripted import Action, Spec

MODULE = "tests.programs.scripted"


@pytest.fixture
def job(tmp_path: Path) -> Path:
    made = tmp_path / "job"
    made.mkdir()
    return made


async def run(job: Path, *actions: Action, steps: list[Step] | None = None) -> Ended:
    (job / "spec.json").write_text(Spec(actions=list(actions)).model_dump_json())
    child = await Child.start(MODULE, job.parent, grace=5)
    return await child.run(job, steps.append if steps is not None else lambda _: None)


@pytest.fixture
async def waiting(job: Path, request: pytest.FixtureRequest) -> AsyncIterator[tuple[Child, asyncio.Task[Ended]]]:
    """A child at work: it runs the actions of the parameter, and has reported."""
    (job / "spec.json").write_text(Spec(actions=list(request.param)).model_dump_json())
    child = await Child.start(MODULE, job.parent, grace=0.5)
    working = asyncio.Event()
    running = asyncio.create_task(child.run(job, lambda _: working.set()))
    await working.wait()
    yield child, running
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_a_program_that_succeeds_leaves_its_output_and_result(job: Path) -> None:
    assert (await run(job, "write")).outcome is Outcome.SUCCEEDED
    assert (job / "out" / "answer.txt").read_text() == "42"
    assert (job / "result.json").read_text() == '{"answer":42}'


async def test_progress_lines_arrive_in_order(job: Path) -> None:
    steps: list[Step] = []
    await run(job, "progress", steps=steps)
    assert [step.done for step in steps] == list(range(1, 201))


async def test_what_a_library_prints_goes_to_the_log(job: Path) -> None:
    steps: list[Step] = []
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
async def test_every_bad_end_has_a_kind_and_a_sentence(
    job: Path, action: Action, kind: FailureKind, words: str
) -> None:
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
    child = await Child.start(MODULE, job.parent, grace=5)
    ended = await child.run(job, lambda _: None)
    assert ended.failure is not None
    assert ended.failure.failure is FailureKind.BAD_CONFIGURATION


async def test_a_module_that_cannot_be_imported_is_a_crash_with_its_reason(job: Path) -> None:
    child = await Child.start("tests.programs.missing", job.parent, grace=5)
    ended = await child.run(job, lambda _: None)
    assert ended.failure is not None
    assert "No module named 'tests.programs.missing'" in ended.failure.message


@pytest.mark.parametrize("waiting", [("wait_for_stop",)], indirect=True)
async def test_a_stopped_program_may_finish_its_step(waiting: tuple[Child, asyncio.Task[Ended]]) -> None:
    child, running = waiting
    await child.stop()
    assert (await running).outcome is Outcome.STOPPED


@pytest.mark.parametrize("waiting", [("grandchild", "ignore_stop")], indirect=True)
async def test_a_program_that_will_not_stop_is_killed_with_all_that_it_started(
    waiting: tuple[Child, asyncio.Task[Ended]], job: Path
) -> None:
    child, running = waiting
    grandchild = psutil.Process(int((job / "grandchild").read_text()))
    await child.stop()
    assert (await running).outcome is Outcome.STOPPED
    await asyncio.to_thread(grandchild.wait, 5)


@pytest.mark.parametrize("waiting", [("grandchild", "ignore_stop")], indirect=True)
async def test_the_end_of_a_child_is_seen_though_what_it_started_holds_its_output(
    waiting: tuple[Child, asyncio.Task[Ended]],
) -> None:
    child, running = waiting
    os.kill(child.pid, signal.SIGKILL)
    ended = await asyncio.wait_for(running, 5)
    assert ended.failure is not None
    assert ended.failure.failure is FailureKind.OUT_OF_MEMORY


async def test_a_daemon_that_holds_a_childs_output_does_not_hold_up_its_end(
    job: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(child_module, "LAST_WORDS", 0.1)
    ended = await asyncio.wait_for(run(job, "daemon", "write"), 10)
    end_leftovers(job.parent)
    assert ended.outcome is Outcome.SUCCEEDED


async def test_modules_in_the_workers_working_directory_are_not_taken_for_ours(
    job: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere" / "infra").mkdir(parents=True)
    (tmp_path / "elsewhere" / "infra" / "__init__.py").touch()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert (await run(job, "write")).outcome is Outcome.SUCCEEDED


@pytest.mark.parametrize("waiting", [("ignore_stop",)], indirect=True)
async def test_cancelling_a_run_ends_the_child(waiting: tuple[Child, asyncio.Task[Ended]]) -> None:
    child, running = waiting
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert not child.alive


async def test_a_warm_child_serves_the_next_job(tmp_path: Path, job: Path) -> None:
    (job / "spec.json").write_text(Spec(actions=["write"]).model_dump_json())
    children = Children(tmp_path, 5, warm=True)
    await children.warm(MODULE)
    spare = children._spare
    child = await children.take(MODULE)
    assert child is spare
    assert (await child.run(job, lambda _: None)).outcome is Outcome.SUCCEEDED


async def test_a_warm_child_of_another_module_is_discarded(tmp_path: Path) -> None:
    children = Children(tmp_path, 5, warm=True)
    await children.warm("tests.programs")
    spare = children._spare
    other = await children.take(MODULE)
    assert spare is not None
    assert not spare.alive
    await other.discard()


async def test_closing_ends_the_warm_child(tmp_path: Path) -> None:
    children = Children(tmp_path, 5, warm=True)
    await children.warm(MODULE)
    spare = children._spare
    await children.close()
    assert spare is not None
    assert not spare.alive
    assert not await asyncio.to_thread(lambda: list(tmp_path.iterdir()))


def test_a_child_knows_no_secrets() -> None:
    ours = {
        "PATH": "/bin",
        "HF_TOKEN": "t",
        "TREADLE_S3_SECRET_KEY": "s",
        "AWS_ACCESS_KEY_ID": "a",
        "PGPASSWORD": "p",
        "MY_API_KEY": "k",
    }
    theirs = child_environment(ours, Path("/w"))
    assert set(theirs) & set(ours) == {"PATH", "HF_TOKEN"}
    assert theirs["DO_NOT_TRACK"] == theirs["HF_HUB_DISABLE_TELEMETRY"] == "1"


PARENT = """
import asyncio, sys
from pathlib import Path
from infra.child.process import Child

async def main(job):
    child = await Child.start("tests.programs.scripted", job.parent, 5)
    await child.run(job, lambda _: print(child.pid, flush=True))

asyncio.run(main(Path(sys.argv[1])))
"""


@pytest.fixture
async def orphaned(job: Path) -> AsyncIterator[psutil.Process]:
    """A child whose parent was killed in the middle of its work; it had started a grandchild."""
    (job / "spec.json").write_text(Spec(actions=["grandchild", "ignore_stop"]).model_dump_json())
    parent = await asyncio.create_subprocess_exec(sys.executable, "-c", PARENT, str(job), stdout=subprocess.PIPE)
    assert parent.stdout is not None
    child = psutil.Process(int(await parent.stdout.readline()))
    parent.kill()
    await parent.wait()
    yield child
    end_leftovers(job.parent)


def runs(pid: int) -> bool:
    """Whether a process is there and no zombie; the child itself may have ended its group before it died."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


async def test_a_child_dies_with_its_parent(orphaned: psutil.Process) -> None:
    await asyncio.to_thread(orphaned.wait, 5)


async def test_what_a_dead_worker_left_running_is_ended(orphaned: psutil.Process, job: Path) -> None:
    await asyncio.to_thread(orphaned.wait, 5)
    grandchild = int((job / "grandchild").read_text())
    end_leftovers(job.parent)
    assert not runs(grandchild)
