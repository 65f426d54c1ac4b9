"""How a child process ended, from its exit status and the files that it wrote."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import BinaryIO

from pydantic import BaseModel, Field, ValidationError

from contracts.tasks import FailureKind
from infra.child.machine_errors import is_machine_fault_line
from infra.child.program import FAILED, UNFIT

LOG_TAIL = 8192
"""Bytes at the end of the log that are searched for its last line."""
MAX_MESSAGE_LENGTH = 500
MAX_ACCELERATORS = 1024
"""Largest number of accelerators that a program is taken to use."""


class ExitKind(StrEnum):
    """How a program ended."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    STOPPED = "stopped"


class Failure(BaseModel):
    """A program's `error.json`."""

    failure: FailureKind
    message: str
    field: str | None = None


class Usage(BaseModel):
    """A program's `usage.json`."""

    accelerators: int = Field(default=0, ge=0, le=MAX_ACCELERATORS)


@dataclass(frozen=True, slots=True)
class ProgramExit:
    """The end of a program; `failure` is set exactly if the outcome is FAILED."""

    outcome: ExitKind
    seconds: float
    """Wall-clock time from the start of the job."""
    accelerators: int
    failure: Failure | None = None
    work_seconds: float = 0.0
    """Wall-clock time from the first line of `main` to its end."""


def program_exit(
    folder: Path, log: Path, status: int, *, seconds: float, work_seconds: float, stopping: bool
) -> ProgramExit:
    """The end of the program that had exit status `status`. `stopping`: the worker had sent it a stop signal."""
    outcome, failure = ExitKind.FAILED, None
    if status == 0 and (folder / "result.json").exists():
        outcome = ExitKind.SUCCEEDED
    elif stopping and status not in {FAILED, UNFIT}:
        outcome = ExitKind.STOPPED
    else:
        failure = _failure(folder, log, status)
    return ProgramExit(outcome, seconds, _accelerators(folder), failure, work_seconds)


def lost_program(reason: str, *, seconds: float, work_seconds: float, stopping: bool) -> ProgramExit:
    """The end of a program whose exit status is unknown."""
    if stopping:
        return ProgramExit(ExitKind.STOPPED, seconds, 0, work_seconds=work_seconds)
    failure = Failure(failure=FailureKind.LEASE_LOST, message=reason)
    return ProgramExit(ExitKind.FAILED, seconds, 0, failure, work_seconds)


def _failure(folder: Path, log: Path, status: int) -> Failure:
    if status == FAILED:
        return _reported_failure(folder)
    if status == -signal.SIGKILL:
        return Failure(
            failure=FailureKind.OUT_OF_MEMORY,
            message="the program was killed by the system, most likely because memory ran out",
        )
    if status == UNFIT:
        return _unfit(f"the program cannot run on this machine: {last_line(log)}")
    line = last_line(log)
    message = f"the program {exit_text(status)}: {line}"
    return _unfit(message) if is_machine_fault_line(line) else _crash(message)


def exit_text(status: int) -> str:
    """How a process ended, as a predicate."""
    return f"was killed by {signal.Signals(-status).name}" if status < 0 else f"crashed with status {status}"


def _reported_failure(folder: Path) -> Failure:
    try:
        return Failure.model_validate_json((folder / "error.json").read_bytes())
    except (OSError, ValidationError) as error:
        return _crash(f"the program failed and its error.json cannot be read: {error}")


def _crash(message: str) -> Failure:
    return Failure(failure=FailureKind.PROGRAM_CRASHED, message=message[:MAX_MESSAGE_LENGTH])


def _unfit(message: str) -> Failure:
    return Failure(failure=FailureKind.WORKER_UNFIT, message=message[:MAX_MESSAGE_LENGTH])


def _accelerators(folder: Path) -> int:
    try:
        return Usage.model_validate_json((folder / "usage.json").read_bytes()).accelerators
    except (OSError, ValidationError):  # killed before it wrote the file
        return 0


def last_line(log: Path) -> str:
    """The last line of a log that is not blank; for a traceback, this is the error itself."""
    with log.open("rb") as file:
        return last_line_of(file)


def last_line_of(file: BinaryIO) -> str:
    """The last line of an open log that is not blank."""
    file.seek(max(0, os.fstat(file.fileno()).st_size - LOG_TAIL))
    lines = file.read().decode(errors="replace").split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), "its log is empty")
