"""The state of one attempt in this worker, and the verdicts that control has sent about it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from uuid import UUID, uuid4

import structlog

from contracts.commands import PhaseCommand
from contracts.leases import Heartbeat, LeaseVerdict
from contracts.tasks import AttemptKey
from infra.child.outcome import ExitKind, ProgramExit

TRACE_HEADERS = ("traceparent", "tracestate")
"""Headers that are copied from the command to every message of its attempt."""

MAX_TRACE_HEADER = 512 + 1
"""Characters from which a trace header is not copied; W3C's Trace Context has at most 512."""

NOT_RUN = ProgramExit(ExitKind.STOPPED, seconds=0.0, accelerators=0)
"""The end of a program that did not run."""

log = structlog.get_logger(__name__)


def trace_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """The headers of a command that are copied to the messages of its attempt."""
    return {name: headers[name] for name in TRACE_HEADERS if len(headers.get(name, "")) in range(1, MAX_TRACE_HEADER)}


class Attempt:
    """An attempt, registered before its claim is sent, so that a signal before the start is not missed."""

    def __init__(self, command: PhaseCommand, headers: Mapping[str, str]) -> None:
        self.command = command
        self.claim_id: UUID = uuid4()
        self.headers = trace_headers(headers)
        self.ended_by: LeaseVerdict | None = None
        """The verdict with which control ended the attempt; the program is then stopped and no event is published."""
        self.signalled = False
        """Whether a signal about the attempt arrived while its claim was pending."""
        self.paused = asyncio.Event()
        """Set when control pauses the attempt or this worker stops."""
        self.fraction: float | None = None
        """The completed part of the current stage, from 0 to 1; None if its total is unknown."""
        self.checkpoint: str | None = None
        """Prefix of the newest checkpoint that is complete in the object store."""
        self.acknowledged_checkpoint: str | None = None
        """Prefix of the checkpoint in the last heartbeat that control answered with GRANTED."""
        self._sent_checkpoint: str | None = None
        self.accelerators = 0
        """The number of accelerators that the program uses, from its last progress line."""
        self.running_since: float | None = None
        """The start of the program, in seconds of the monotonic clock."""
        self.log_incomplete = False
        """Whether the end of the program's log could not be uploaded."""
        self._work_task: asyncio.Task[Any] | None = None

    @property
    def key(self) -> AttemptKey:
        """The fencing token."""
        return self.command.key

    def heartbeat(self) -> Heartbeat:
        """Create the next heartbeat, with progress and newest checkpoint."""
        self._sent_checkpoint = self.checkpoint
        return Heartbeat(
            key=self.key,
            claim_id=self.claim_id,
            fraction=self.fraction,
            checkpoint=self.checkpoint,
            gpu_seconds=self._gpu_seconds(),
        )

    def _gpu_seconds(self) -> float:
        return 0.0 if self.running_since is None else (time.monotonic() - self.running_since) * self.accelerators

    def event_fields(self, worker_id: str, program_exit: ProgramExit | None) -> dict[str, Any]:
        """The fields that all events of the attempt share; `program_exit` is None if the program did not run."""
        ended = program_exit or NOT_RUN
        return {
            "key": self.key,
            "claim_id": self.claim_id,
            "worker_id": worker_id,
            "seconds": ended.seconds,
            "gpu_seconds": ended.seconds * ended.accelerators,
            "work_seconds": ended.work_seconds,
        }

    async def run_until_ended(self, work: Callable[[], Awaitable[bool]]) -> bool:
        """Run `work` and return its result, or False if control ends the attempt before or during it.

        `on_verdict` cancels the calling task, but only while `work` runs.
        """
        if self.ended_by is not None:
            return False
        self._work_task = task = asyncio.current_task()
        assert task is not None, "a coroutine runs in a task"
        try:
            return await work()
        except asyncio.CancelledError:
            if self.ended_by is None:  # the worker host stops
                raise
            task.uncancel()
            return False
        finally:
            self._work_task = None

    def on_verdict(self, verdict: LeaseVerdict) -> None:
        """Apply the verdict of a heartbeat's answer; only FENCED and CANCELLED end a running attempt."""
        match verdict:
            case LeaseVerdict.GRANTED:
                self.acknowledged_checkpoint = self._sent_checkpoint
            case LeaseVerdict.PAUSE:
                self.paused.set()
            case LeaseVerdict.FENCED | LeaseVerdict.CANCELLED:
                self._stop_work(verdict)
            case LeaseVerdict.HELD | LeaseVerdict.UNKNOWN:
                log.warning("verdict_ignored", verdict=verdict, claim_id=str(self.claim_id))

    def _stop_work(self, verdict: LeaseVerdict) -> None:
        if self.ended_by is None:
            log.info("attempt_ended_by_control", verdict=verdict, claim_id=str(self.claim_id))
            self.ended_by = verdict
            if self._work_task is not None:
                self._work_task.cancel()
