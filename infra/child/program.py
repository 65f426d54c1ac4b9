"""Runs a program in a child process: reads `spec.json`, reports progress, writes `out/` and `result.json`.

To run it by hand: `python -m infra.child.program trainer_worker.programs.train DIR`. Without DIR the process imports
the program, which takes seconds with torch, and then reads DIR as one line from standard input.
When standard input ends, the parent has ended, and the process ends itself.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import json
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NoReturn, Protocol, TextIO, TypeVar

from pydantic import BaseModel, ValidationError

from contracts.tasks import FailureKind
from infra.child.lifeline import die_with_parent, read_line, reserve_stdout, watch_parent
from infra.child.machine_errors import DISK_AND_LIMITS, machine_fault
from infra.child.memory import first_line, is_out_of_memory
from infra.errors import PhaseError
from infra.private_folders import UMASK

T = TypeVar("T")
FAILED, STOPPED, UNFIT = 3, 4, 5
"""Exit statuses: failed, with the reason in `error.json`; stopped on request; the machine is broken, with the reason at
the end of the log, because no file can be written."""
REPORT_EVERY = 0.25
"""Seconds between two progress lines; the first and the last line are always written."""


class Program(Protocol):
    """A module under `*_worker.programs`: a class `Spec` and a function `main`."""

    Spec: type[BaseModel]

    def main(self, spec: BaseModel, job: Job) -> BaseModel:
        """Do the work; the returned object is written to `result.json`."""
        ...


class Job:
    """The folder of a job: the program reads `input/<name>/…` and writes `out/…`."""

    def __init__(self, folder: Path, progress: TextIO | None = None) -> None:
        self.folder = folder
        self.out = folder / "out"
        self.out.mkdir(exist_ok=True)
        self.stop = threading.Event()
        """Set by SIGTERM: the program then finishes its step, writes a checkpoint if it can, and raises Stopped."""
        self.checkpoints = folder / "checkpoints"
        """Folder for checkpoints, `step-<n>/`; each is complete once its manifest exists."""
        self._progress = progress

    def input(self, name: str) -> Path:
        """The folder of the downloaded artifact `name`."""
        return self.folder / "input" / name

    def report(
        self,
        stage: str,
        done: int,
        total: int = 0,
        eta: float | None = None,
        **metrics: float,
    ) -> None:
        """Print one progress line; `eta` is in seconds."""
        line = {"stage": stage, "done": done, "total": total, "eta_seconds": eta, "metrics": metrics}
        self._print({**line, "accelerators": _accelerators()})

    @contextmanager
    def working(self) -> Iterator[None]:
        """Print a line when the block begins and one when it ends, by which the worker measures the program's work."""
        self._print({"working": True})
        try:
            yield
        finally:
            self._print({"working": False})

    def track(self, items: Iterable[T], stage: str, total: int) -> Iterator[T]:
        """Yield `items` and report how many are done, with the remaining seconds estimated from the mean pace."""
        started = reported = time.monotonic()
        self.report(stage, 0, total)
        for done, item in enumerate(items, 1):
            yield item
            now = time.monotonic()
            if now - reported >= REPORT_EVERY or done == total:
                reported = now
                self.report(stage, done, total, (now - started) / done * (total - done))

    def _print(self, line: Mapping[str, object]) -> None:
        print(json.dumps(line), file=self._progress, flush=True)


class Stopped(Exception):
    """Raised by `main` when it stops because `job.stop` is set."""


def run(module: str, folder: Path, program: Program, progress: TextIO | None = None) -> int:
    """Run `program` in `folder` and return its exit status.

    That is 0 succeeded, 3 failed (see `error.json`), 4 stopped, 5 the machine is broken.
    Any other exception is a crash: it is raised, and its traceback goes to standard error.
    """
    try:
        return _run(module, folder, program, Job(folder, progress))
    except OSError as error:
        if error.errno not in DISK_AND_LIMITS:
            raise
        _print_error(str(error))
        return UNFIT


def _run(module: str, folder: Path, program: Program, job: Job) -> int:
    signal.signal(signal.SIGTERM, lambda *_: job.stop.set())
    try:
        spec = program.Spec.model_validate_json((folder / "spec.json").read_bytes())
    except ValidationError as error:
        return _fail(folder, FailureKind.BAD_CONFIGURATION, f"{module}: {error}", "spec")
    try:
        with job.working():
            result = program.main(spec, job)
    except Stopped:
        return STOPPED
    except Exception as error:
        status = _failed(folder, error)
        if status is None:
            raise
        return status
    finally:
        with suppress(OSError):  # then the accelerators of this attempt are not counted
            (folder / "usage.json").write_text(json.dumps({"accelerators": _accelerators()}))
    (folder / "result.json").write_text(result.model_dump_json())
    return 0


def _failed(folder: Path, error: Exception) -> int | None:
    """Write the reason of a failure, and return the exit status; None if it is none of the known ones."""
    fault = machine_fault(error)
    if fault is not None:
        traceback.print_exception(error)
        return _fail(folder, FailureKind.WORKER_UNFIT, f"{type(fault).__name__}: {first_line(fault)}", None)
    if isinstance(error, PhaseError):
        return _fail(folder, error.kind, str(error), error.field)
    if isinstance(error, MemoryError | RuntimeError) and is_out_of_memory(error):
        return _fail(folder, FailureKind.OUT_OF_MEMORY, f"out of memory: {first_line(error)}", None)
    return None


def _fail(folder: Path, kind: FailureKind, message: str, field: str | None) -> int:
    """Write the reason to `error.json` and to standard error; lone surrogates, which are invalid UTF-8, become "?"."""
    error = json.dumps({"failure": kind.value, "message": message, "field": field}, ensure_ascii=False)
    _print_error(message)
    (folder / "error.json").write_bytes(error.encode(errors="replace"))
    return FAILED


def _print_error(message: str) -> None:
    with suppress(OSError):  # the log is on the same disk as the job
        print(message, file=sys.stderr, flush=True)


def _accelerators() -> int:
    """Number of accelerators on which the program has allocated memory; 0 if torch is not imported."""
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
        return _run_in(Path(arguments[1]).resolve(), module, _import_program(module), None)
    die_with_parent()
    os.umask(UMASK)
    progress = reserve_stdout()
    try:
        program = _import_program(module)
    except (ImportError, OSError):  # a package or a shared library is missing on this machine
        traceback.print_exc()
        return UNFIT
    folder = read_line()
    if not folder:
        return 0
    watch_parent()
    return _run_in(Path(folder).resolve(), module, program, progress)


def _import_program(module: str) -> Program:
    """Import the program's module without garbage collection, which only costs time: imports create no garbage."""
    gc.disable()
    try:
        program: Program = importlib.import_module(module)
    finally:
        gc.enable()
    gc.freeze()
    return program


def _run_in(folder: Path, module: str, program: Program, progress: TextIO | None) -> int:
    os.chdir(folder)  # files that a library writes to its working directory stay in the job's folder
    return run(module, folder, program, progress)


def leave(status: int) -> NoReturn:
    """End this process, but without the interpreter's own clean-up, which takes long and fails on a full disk."""
    with suppress(OSError):
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(status)


if __name__ == "__main__":
    # import this module by its name, so that `Stopped` is the same class that programs import
    from infra.child import program

    program.leave(program.main(sys.argv[1:]))
