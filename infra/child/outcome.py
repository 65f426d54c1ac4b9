"""How a child ended, in words: from its exit status and the files that it left."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from pydantic import BaseModel, ValidationError

from contracts.tasks import FailureKind
from infra.child.program import FAILED

TAIL = 8192
"""Bytes at the end of the log in which the last line is looked for."""
LONGEST_MESSAGE = 500


class Outcome(StrEnum):
    """The three ways for a program to end."""

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

    accelerators: int = 0


@dataclass(frozen=True, slots=True)
class Ended:
    """`failure` is there exactly when the outcome is FAILED."""

    outcome: Outcome
    seconds: float
    """Wall-clock time from the job's start."""
    accelerators: int
    failure: Failure | None = None


def explain(folder: Path, log: Path, status: int, seconds: float, *, stopping: bool) -> Ended:
    """What the exit status means. `stopping`: we had told it to stop."""
    used = _usage(folder)
    if status == 0 and (folder / "result.json").exists():
        return Ended(Outcome.SUCCEEDED, seconds, used)
    if stopping and status != FAILED:
        return Ended(Outcome.STOPPED, seconds, used)
    return Ended(Outcome.FAILED, seconds, used, _failure(folder, log, status))


def _failure(folder: Path, log: Path, status: int) -> Failure:
    if status == FAILED:
        return _typed(folder)
    if status == -signal.SIGKILL:
        return Failure(
            failure=FailureKind.OUT_OF_MEMORY,
            message="the program was killed by the system, most likely because memory ran out",
        )
    return _crash(f"{_how(status)}: {last_line(log)}")


def _how(status: int) -> str:
    if status < 0:
        return f"the program was ended by {signal.Signals(-status).name}"
    return f"the program crashed with status {status}"


def _typed(folder: Path) -> Failure:
    try:
        return Failure.model_validate_json((folder / "error.json").read_bytes())
    except (OSError, ValidationError) as error:
        return _crash(f"the program failed and its error.json cannot be read: {error}")


def _crash(message: str) -> Failure:
    return Failure(failure=FailureKind.PROGRAM_CRASHED, message=message[:LONGEST_MESSAGE])


def _usage(folder: Path) -> int:
    try:
        return Usage.model_validate_json((folder / "usage.json").read_bytes()).accelerators
    except (OSError, ValidationError):  # killed before it could say
        return 0


def last_line(log: Path) -> str:
    """The last line of a log that says something; of a traceback it is the error itself."""
    with log.open("rb") as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - TAIL))
        lines = file.read().decode(errors="replace").split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), "it said nothing")
