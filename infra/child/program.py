"""The child's side of a phase: read `spec.json`, report progress, write `out/` and `result.json`.

Run by hand: `python -m infra.child.program trainer_worker.programs.train DIR`. Without DIR the child imports the
program (torch takes seconds) and then waits for DIR as one line on standard input: a warm child.
The end of standard input means that the parent has died; the child dies with it.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Protocol, TextIO, TypeVar

from pydantic import BaseModel, ValidationError

from contracts.tasks import FailureKind
from infra.child.lifeline import die_with_parent, read_line, reserve_stdout, watch_parent
from infra.child.memory import first_line, is_out_of_memory
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

    def __init__(self, folder: Path, progress: TextIO | None = None) -> None:
        self.folder = folder
        self.out = folder / "out"
        self.out.mkdir(exist_ok=True)
        self.stop = threading.Event()
        """Set by SIGTERM: finish the step, write a checkpoint if you can, and raise Stopped."""
        self.checkpoints = folder / "checkpoints"
        """Where a program writes `step-<n>/` folders, each complete once its manifest is there."""
        self._progress = progress

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
        print(json.dumps({**line, "accelerators": _accelerators()}), file=self._progress, flush=True)

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


def run(module: str, folder: Path, program: Program, progress: TextIO | None = None) -> int:
    """Run `program` in `folder`. The exit status: 0 succeeded, 3 failed with a type, 4 stopped as asked.

    Any other exception is a crash: it leaves here, and its traceback goes to standard error.
    """
    job = Job(folder, progress)
    signal.signal(signal.SIGTERM, lambda *_: job.stop.set())
    try:
        spec = program.Spec.model_validate_json((folder / "spec.json").read_bytes())
    except ValidationError as error:
        return _fail(folder, FailureKind.BAD_CONFIGURATION, f"{module}: {error}", "spec")
    try:
        result = program.main(spec, job)
    except Stopped:
        return STOPPED
    except PhaseError as error:
        return _fail(folder, error.kind, str(error), error.field)
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        return _fail(folder, FailureKind.OUT_OF_MEMORY, f"out of memory: {first_line(error)}", None)
    finally:
        (folder / "usage.json").write_text(json.dumps({"accelerators": _accelerators()}))
    (folder / "result.json").write_text(result.model_dump_json())
    return 0


def _fail(folder: Path, kind: FailureKind, message: str, field: str | None) -> int:
    """Say why, in `error.json` and for a person; half a surrogate pair, which no reader takes, becomes a mark."""
    error = json.dumps({"failure": kind.value, "message": message, "field": field}, ensure_ascii=False)
    (folder / "error.json").write_bytes(error.encode(errors="replace"))
    print(message, file=sys.stderr, flush=True)
    return FAILED


def _accelerators() -> int:
    """How many accelerators the program has used memory of; 0 where torch was not even loaded."""
    torch = sys.modules.get("torch")
    if torch is None:
        return 0
    if torch.cuda.is_available():
        used = (torch.cuda.max_memory_reserved(index) for index in range(torch.cuda.device_count()))
        return sum(1 for size in used if size) if torch.cuda.is_initialized() else 0
    return int(torch.backends.mps.is_available() and torch.mps.driver_allocated_memory() > 0)


def main(arguments: list[str]) -> int:
    """Entry point of `python -m infra.child.program MODULE [DIR]`."""
    module = arguments[0]
    if len(arguments) > 1:
        return _run_in(Path(arguments[1]).resolve(), module, _imported(module), None)
    die_with_parent()
    progress = reserve_stdout()
    program = _imported(module)
    folder = read_line()
    if not folder:
        return 0
    watch_parent()
    return _run_in(Path(folder).resolve(), module, program, progress)


def _imported(module: str) -> Program:
    """The program's module. What imports make is no garbage: not looking for any there takes a tenth off torch's."""
    gc.disable()
    try:
        program: Program = importlib.import_module(module)
    finally:
        gc.enable()
    gc.freeze()
    return program


def _run_in(folder: Path, module: str, program: Program, progress: TextIO | None) -> int:
    os.chdir(folder)  # so that what a library drops into the working directory stays in the job's folder
    return run(module, folder, program, progress)


if __name__ == "__main__":
    # as `infra.child.program`, not as `__main__`: there must be one class Stopped, the one that programs import
    from infra.child.program import main as entry

    sys.exit(entry(sys.argv[1:]))
