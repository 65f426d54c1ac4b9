"""The events of attempts that end without a result."""

from __future__ import annotations

import errno
from collections.abc import Collection

from contracts.events import PhaseFailed, PhasePaused, WorkerEvent
from contracts.tasks import FailureKind
from infra.child.machine_errors import PROCESSES, machine_fault
from infra.child.outcome import Failure, ProgramExit
from infra.worker.attempt import Attempt
from infra.worker.folders import WorkerFolder
from infra.worker.limits import Limits
from infra.worker.masking import Masker

FAILURES_WITH_LOG = frozenset(
    {FailureKind.PROGRAM_CRASHED, FailureKind.OUT_OF_MEMORY, FailureKind.TIMED_OUT, FailureKind.STALLED}
)
"""Failures whose message says how to read the program's log."""
ACCESS = frozenset({errno.EACCES, errno.EPERM})
"""Error numbers with which the system refuses the worker its own files."""


def kind_of(error: Exception) -> FailureKind:
    """Of an unforeseen error in this process, which may be the machine's fault."""
    refused = isinstance(error, OSError) and error.errno in PROCESSES | ACCESS
    return FailureKind.WORKER_UNFIT if refused or machine_fault(error) else FailureKind.PROGRAM_CRASHED


class Endings:
    """Makes the events of one worker."""

    def __init__(self, worker_id: str, folder: WorkerFolder, secrets: Collection[bytes] = ()) -> None:
        self._worker_id = worker_id
        self._folder = folder
        self._secrets = secrets
        """What is masked in messages, which may quote a program's log."""

    def stopped(self, attempt: Attempt, program_exit: ProgramExit, limits: Limits) -> WorkerEvent:
        """The event of a program that was stopped by a pause, or by a limit."""
        error = limits.exceeded
        if error is None or attempt.paused.is_set():
            return self.paused(attempt, program_exit)
        return self.failed(attempt, Failure(failure=error.kind, message=str(error)), program_exit)

    def paused(self, attempt: Attempt, program_exit: ProgramExit | None = None) -> PhasePaused:
        """The event of a pause; without `program_exit`, the program had not started."""
        return PhasePaused(**attempt.event_fields(self._worker_id, program_exit), checkpoint=attempt.checkpoint)

    def failed(self, attempt: Attempt, failure: Failure, program_exit: ProgramExit | None = None) -> PhaseFailed:
        """The event of a failure; without `program_exit`, it is not one of the program."""
        message = self._masked(failure.message)
        if program_exit is not None and failure.failure in FAILURES_WITH_LOG:
            message += f" ({self._where_the_log_is(attempt)})"
        return PhaseFailed(
            **attempt.event_fields(self._worker_id, program_exit),
            failure=failure.failure,
            message=message,
            field=failure.field,
            checkpoint=attempt.checkpoint,
        )

    def _where_the_log_is(self, attempt: Attempt) -> str:
        command = f"see its log with `treadle logs {attempt.key.task_id} --attempt {attempt.key.name}`"
        if not attempt.log_incomplete:
            return command
        place = f"on the machine of worker {self._worker_id}, in {self._folder.job_path(attempt.key)}"
        return f"{command}; its end could not be uploaded and is {place}"

    def _masked(self, text: str) -> str:
        return Masker(self._secrets).masked(text.encode(errors="replace")).decode(errors="replace")
