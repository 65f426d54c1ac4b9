"""The program of a chaos run, as a child and as a coroutine alike: it takes its time, and writes a small file."""

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
    """One attempt."""

    key: AttemptKey
    seed: int


class Result(BaseModel):
    """What it answers."""

    bytes: int


def main(spec: Spec, job: Job) -> Result:
    """The program in a child."""
    script = Script.of(spec.seed)
    if script.fault(spec.key) == "crash":
        os._exit(9)
    job.report("working", 0, 1)
    if job.stop.wait(script.seconds(spec.key)):
        raise Stopped
    return _work(spec, job.out)


async def coroutine(folder: Path) -> None:
    """The program in the worker's own process."""
    spec = Spec.model_validate_json((folder / "spec.json").read_bytes())
    script = Script.of(spec.seed)
    if script.fault(spec.key) == "crash":
        raise PhaseError("it crashes the first time")
    await asyncio.sleep(script.seconds(spec.key))
    (folder / "result.json").write_text(_work(spec, folder / "out").model_dump_json())


def _work(spec: Spec, out: Path) -> Result:
    if Script.of(spec.seed).fault(spec.key) == "bad_input":
        raise BadInput("it is bad, however often one tries", field="rows")
    text = hashlib.sha256(f"{spec.key}".encode()).hexdigest()
    (out / "rows.txt").write_text(text)
    return Result(bytes=len(text))
