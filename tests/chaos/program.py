"""The program of a chaos run, as a child process or as a coroutine: it waits and then writes a small file."""

from __future__ import annotations

import asyncio
import hashlib
import os
from pathlib import Path

from pydantic import BaseModel

from contracts.tasks import AttemptKey
from infra.child.program import Job, Stopped
from infra.errors import BadInput, PhaseError
from tests.chaos.script import Script


class Spec(BaseModel):
    """The attempt and the seed of its task."""

    key: AttemptKey
    seed: int


class Result(BaseModel):
    """The size of the output in bytes."""

    bytes: int


def main(spec: Spec, job: Job) -> Result:
    """Run the program in a child process."""
    script = Script.of(spec.seed)
    if script.fault(spec.key) == "crash":
        os._exit(9)
    job.report("working", 0, 1)
    if job.stop.wait(script.seconds(spec.key)):
        raise Stopped
    return _work(spec, job.out)


async def coroutine(folder: Path) -> None:
    """Run the program in the process of the worker."""
    spec = Spec.model_validate_json((folder / "spec.json").read_bytes())
    script = Script.of(spec.seed)
    if script.fault(spec.key) == "crash":
        raise PhaseError("the first attempt crashes")
    await asyncio.sleep(script.seconds(spec.key))
    (folder / "result.json").write_text(_work(spec, folder / "out").model_dump_json())


def _work(spec: Spec, out: Path) -> Result:
    if Script.of(spec.seed).fault(spec.key) == "bad_input":
        raise BadInput("the input is bad in every attempt", field="rows")
    text = hashlib.sha256(f"{spec.key}".encode()).hexdigest()
    (out / "rows.txt").write_text(text)
    return Result(bytes=len(text))
