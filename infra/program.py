"""The child's side of a phase: read `spec.json`, report progress, write `out/` and `result.json`.

Run by hand: `python -m infra.program trainer_worker.programs.train DIR`. Without DIR the child imports the
program (torch takes seconds) and then waits for DIR as one line on standard input: a warm child.
The end of standard input means that the parent has died; the child dies with it.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Protocol, TypeVar

from pydantic import BaseModel, ValidationError

from contracts.tasks import FailureKind
from infra.errors import PhaseError

T = TypeVar("T")
FAILED, STOPPED = 3, 4
"""Exit statuses: `error.json` says why; stopped as asked."""
REPORT_EVERY = 0.25
"""Seconds between two progress lines; the first and the last are always written."""


class Program(Protocol):
    """A module under `*_worker.programs`: a spec class and a main."""

    Spec: type[BaseModel]

    def main(self, spec: BaseModel, job: Job) -> BaseModel:
        """Do the work; the answer becomes `result.json`."""
        ...


class Job:
    """One job's folder as the program sees it: `input/<name>/…` to read, `out/…` to write."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.out = folder / "out"
        self.out.mkdir(exist_ok=True)
        self.stop = threading.Event()
        """Set by SIGTERM: finish the step, write a checkpoint if you can, and raise Stopped."""
        self.checkpoints = folder / "checkpoints"
        """Where a program writes `step-<n>/` folders, each complete once its manifest is there."""

    def input(self, name: str) -> Path:
        """The folder of a downloaded artifact."""
        return self.folder / "input" / name

    def report(
        self,
        stage: str,
        done: int,
        total: int = 0,
        eta: float | None = None,
        **metrics: float,
    ) -> None:
        """Print one progress line."""
        line = {"stage": stage, "done": done, "total": total, "eta_seconds": eta, "metrics": metrics}
        print(json.dumps(line), flush=True)

    def track(self, items: Iterable[T], stage: str, total: int) -> Iterator[T]:
        """Yield `items` and report how many are done, with an ETA from the mean pace."""
        started = reported = time.monotonic()
        self.report(stage, 0, total)
        for done, item in enumerate(items, 1):
            yield item
            now = time.monotonic()
            if now - reported >= REPORT_EVERY or done == total:
                reported = now
                self.report(stage, done, total, (now - started) / done * (total - done))


class Stopped(Exception):
    """The program stopped because it was asked to; raised by a `main` that saw `job.stop`."""


def run(module: str, folder: Path, program: Program) -> int:
    """Run `program` in `folder`. The exit status: 0 succeeded, 3 failed with a type, 4 stopped as asked."""
    job = Job(folder)
    signal.signal(signal.SIGTERM, lambda *_: job.stop.set())
    try:
        spec = program.Spec.model_validate_json((folder / "spec.json").read_bytes())
        result = program.main(spec, job)
    except Stopped:
        return STOPPED
    except PhaseError as error:
        return _fail(folder, error.kind, str(error), error.field)
    except ValidationError as error:
        return _fail(folder, FailureKind.BAD_CONFIGURATION, f"{module}: {error}", "spec")
    except MemoryError:
        return _fail(folder, FailureKind.OUT_OF_MEMORY, "the program ran out of memory", None)
    (folder / "result.json").write_text(result.model_dump_json())
    return 0


def _fail(folder: Path, kind: FailureKind, message: str, field: str | None) -> int:
    (folder / "error.json").write_text(json.dumps({"failure": kind.value, "message": message, "field": field}))
    return FAILED


def _die_with_parent() -> None:
    """End this process when standard input ends: the parent is gone."""
    sys.stdin.buffer.read()
    os.killpg(os.getpgrp(), signal.SIGKILL)


def main(arguments: list[str]) -> int:
    """Entry point of `python -m infra.program MODULE [DIR]`."""
    module = arguments[0]
    program: Program = importlib.import_module(module)
    if len(arguments) > 1:
        return run(module, Path(arguments[1]), program)
    line = sys.stdin.buffer.readline().decode().strip()
    if not line:
        return 0
    threading.Thread(target=_die_with_parent, daemon=True).start()
    return run(module, Path(line), program)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
