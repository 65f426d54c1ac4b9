"""A program that does the actions of its spec in order: one module for every way in which a program can end."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import tempfile
import time
from typing import Literal

from pydantic import BaseModel

from contracts.artifacts import MANIFEST
from infra.child.program import Job, Stopped
from infra.errors import BadInput

Action = Literal[
    "write",
    "copy_input",
    "list_inputs",
    "noise",
    "progress",
    "environment",
    "temporary",
    "bad_input",
    "bad_text",
    "crash",
    "memory_error",
    "torch_memory_error",
    "killed",
    "segfault",
    "grandchild",
    "daemon",
    "wait_for_stop",
    "ignore_stop",
    "checkpoint",
    "checkpoints",
    "later_checkpoint",
    "wait_for_go",
    "no_result",
    "disk_full",
    "frozen",
    "repeating",
    "busy_disk",
    "short_work",
    "show_secrets",
]
SECRET_FILE = "SCRIPTED_OUTPUT"
"""The variable with the path of what `show_secrets` writes to standard error."""


class Spec(BaseModel):
    actions: list[Action]


class Result(BaseModel):
    answer: int


class OutOfMemoryError(RuntimeError):
    """An error with the same name as the one of torch."""


def main(spec: Spec, job: Job) -> Result:
    for action in spec.actions:
        _act(action, job)
    return Result(answer=42)


def _act(action: Action, job: Job) -> None:
    match action:
        case "write":
            (job.out / "answer.txt").write_text("42")
        case "copy_input":
            (job.out / "copy.txt").write_bytes((job.input("rows") / "train.jsonl").read_bytes())
        case "list_inputs":
            inputs = sorted(path.relative_to(job.input("")).as_posix() for path in job.input("").glob("*/*"))
            (job.out / "inputs.txt").write_text(" ".join(inputs))
        case "noise":
            print("a library's chatter")
            os.write(2, b"a warning\n")
        case "show_secrets":
            with open(os.environ[SECRET_FILE], "rb") as shown:
                os.write(2, shown.read())
        case "progress":
            for done in range(200):
                job.report("working", done + 1, 200, loss=1 / (done + 1))
        case "environment":
            (job.out / "environment.txt").write_text("\n".join(os.environ))
        case "temporary":
            (job.out / "temporary.txt").write_text(tempfile.mkdtemp())
        case "wait_for_stop" | "checkpoint":
            _wait(job, action)
        case "checkpoints":
            _write_checkpoints(job)
        case "later_checkpoint":
            (job.checkpoints / "step-11").mkdir()
            (job.checkpoints / "step-11" / MANIFEST).touch()
        case "wait_for_go":
            job.report("waiting", 0)
            while not (job.folder / "go").exists():
                if job.stop.wait(0.02):
                    raise Stopped
        case "frozen":
            job.report("freezing", 0)
            os.kill(os.getpid(), signal.SIGSTOP)
        case "repeating":
            while not job.stop.wait(0.02):
                job.report("the same", 7, 9)
            raise Stopped
        case "busy_disk":
            for _ in range(100):
                (job.folder / "block").write_bytes(bytes(4 * 2**20))
                time.sleep(0.03)
        case "short_work":
            time.sleep(0.3)
        case "ignore_stop":
            job.report("ignoring", 0)
            time.sleep(60)
        case "daemon":
            assert job._progress is not None
            inherited = (job._progress.fileno(),)
            subprocess.Popen(
                [sys.executable, "-c", "import time; time.sleep(60)"], pass_fds=inherited, start_new_session=True
            )
        case "grandchild":
            child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
            (job.folder / "grandchild").write_text(str(child.pid))
        case _:
            _end(action)


def _wait(job: Job, action: Action) -> None:
    job.report("waiting", 0)
    job.stop.wait(60)
    if action == "checkpoint":
        _write_checkpoints(job)
    raise Stopped


def _write_checkpoints(job: Job) -> None:
    """Write three checkpoints, of which the newest is incomplete; the complete ones appear last."""
    for step, complete in ((5, True), (7, True), (9, False)):
        temporary = job.checkpoints / f".step-{step}"
        temporary.mkdir(parents=True)
        (temporary / "state.json").write_text(f'{{"step": {step}}}')
        if complete:
            (temporary / MANIFEST).touch()
    for temporary in sorted(job.checkpoints.iterdir(), reverse=True):
        temporary.rename(job.checkpoints / temporary.name.removeprefix("."))


def _end(action: Action) -> None:
    match action:
        case "bad_input":
            raise BadInput("line 3 is no JSON", field="data.jsonl:3")
        case "bad_text":
            raise BadInput("half a pair: \ud83d", field="data.jsonl:4")
        case "memory_error":
            raise MemoryError
        case "torch_memory_error":
            raise OutOfMemoryError("CUDA out of memory.\nTried to allocate 2 GiB")
        case "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        case "segfault":
            os.kill(os.getpid(), signal.SIGSEGV)
        case "no_result":
            os._exit(0)
        case "disk_full":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        case _:
            raise ValueError("the loss is not a number")
