"""One attempt in this worker's hands: what it is, and what control has said about it meanwhile."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from uuid import UUID, uuid4

import structlog

from contracts.commands import PhaseCommand
from contracts.leases import Heartbeat, Verdict
from contracts.tasks import AttemptKey

CARRIED = ("traceparent", "tracestate")
"""Headers of the command that everything published for its attempt carries on."""

log = structlog.get_logger(__name__)


def carried(headers: Mapping[str, str]) -> dict[str, str]:
    """Those of a command's headers that are carried on."""
    return {name: headers[name] for name in CARRIED if name in headers}


class Attempt:
    """Registered before its claim is sent, so that a cancel which comes in between stops the start."""

    def __init__(self, command: PhaseCommand, headers: Mapping[str, str]) -> None:
        self.command = command
        self.claim_id: UUID = uuid4()
        self.headers = carried(headers)
        self.ended_by: Verdict | None = None
        """Control wants nothing more of it: stop, publish nothing."""
        self.paused = asyncio.Event()
        """Control, or this worker's own end, wants it given back."""
        self.fraction: float | None = None
        """How much of the present stage is done, where its end is known."""
        self.checkpoint: str | None = None
        """Prefix of its newest checkpoint that is complete in the store."""
        self.known: str | None = None
        """The newest of them that control is sure to know of: its answer to a heartbeat came after the name."""
        self._told: str | None = None
        self.accelerators = 0
        """How many its program holds, as it said last."""
        self.running_since: float | None = None
        """When its program began, by the monotonic clock."""
        self._at_work: asyncio.Task[Any] | None = None

    @property
    def key(self) -> AttemptKey:
        """The fencing token."""
        return self.command.key

    def heartbeat(self) -> Heartbeat:
        """That it still runs, and how far it is."""
        self._told = self.checkpoint
        return Heartbeat(
            key=self.key,
            claim_id=self.claim_id,
            fraction=self.fraction,
            checkpoint=self.checkpoint,
            gpu_seconds=self._gpu_seconds(),
        )

    def _gpu_seconds(self) -> float:
        return 0.0 if self.running_since is None else (time.monotonic() - self.running_since) * self.accelerators

    async def see_through(self, work: Callable[[], Awaitable[bool]]) -> bool:
        """The answer of `work`; False where control wants nothing more of it, before or meanwhile.

        `obey` cancels the calling task, but only while it is at work: what it does afterwards is left in peace.
        """
        if self.ended_by is not None:
            return False
        self._at_work = task = asyncio.current_task()
        assert task is not None, "a coroutine runs in a task"
        try:
            return await work()
        except asyncio.CancelledError:
            if self.ended_by is None:  # the host ends
                raise
            task.uncancel()
            return False
        finally:
            self._at_work = None

    def obey(self, verdict: Verdict) -> None:
        """Act upon a heartbeat's answer or a signal. Only an explicit word of control ends a running attempt."""
        match verdict:
            case Verdict.GRANTED:
                self.known = self._told
            case Verdict.PAUSE:
                self.paused.set()
            case Verdict.FENCED | Verdict.CANCELLED:
                self._end(verdict)
            case Verdict.HELD | Verdict.UNKNOWN:
                log.warning("verdict_not_obeyed", verdict=verdict, claim_id=str(self.claim_id))

    def _end(self, verdict: Verdict) -> None:
        if self.ended_by is None:
            log.info("attempt_ended_by_control", verdict=verdict, claim_id=str(self.claim_id))
            self.ended_by = verdict
            if self._at_work is not None:
                self._at_work.cancel()
