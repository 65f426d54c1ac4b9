"""Claims and heartbeats: how a worker gets and keeps the right to run one attempt."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal
from uuid import UUID

from pydantic import Field

from contracts.message import Frozen, Message, derived_id
from contracts.tasks import AttemptKey, Phase


class Claim(Frozen):
    """May I run this attempt? `claim_id` is made by the worker, one for each delivery."""

    key: AttemptKey
    claim_id: UUID


class Heartbeat(Frozen):
    """I still run this attempt."""

    key: AttemptKey
    claim_id: UUID
    fraction: float | None = Field(default=None, ge=0, le=1)
    checkpoint: str | None = None
    """Prefix of the newest checkpoint that is complete in the store."""
    gpu_seconds: float = Field(default=0.0, ge=0)
    """Seconds so far times accelerators held: what would be wasted if this were its last word."""


class Verdict(StrEnum):
    """Control's answer to a claim or a heartbeat."""

    GRANTED = "granted"
    """Run it; or, to a heartbeat: go on."""
    HELD = "held"
    """Another claim runs it: drop the delivery."""
    FENCED = "fenced"
    """A newer attempt exists, or the task has moved on: stop, publish nothing."""
    CANCELLED = "cancelled"
    """The task was cancelled: stop."""
    PAUSE = "pause"
    """The task is paused: do not start; or, to a heartbeat: write a checkpoint and report PhasePaused."""
    UNKNOWN = "unknown"
    """There is no such attempt."""


class WorkerState(Frozen):
    """Who is there: feeds the `workers` table."""

    worker_id: str
    phase: Phase
    host: str
    slots: int = Field(ge=1, lt=2**31)
    busy: int = Field(ge=0, lt=2**31)


class LeaseRequest(Message):
    """All claims and heartbeats of one worker that wait together."""

    kind: Literal["lease_request"] = "lease_request"
    version: Literal[1] = 1
    request_id: UUID
    worker: WorkerState
    claims: tuple[Claim, ...] = ()
    heartbeats: tuple[Heartbeat, ...] = ()

    @property
    def message_id(self) -> UUID:
        """One for each request."""
        return derived_id(self.request_id, self.kind)


class LeaseAnswer(Frozen):
    """The verdict for one claim or heartbeat; `ttl` seconds count from when the request was sent."""

    claim_id: UUID
    verdict: Verdict
    ttl: float = Field(gt=0)


class LeaseReply(Message):
    """Answers in the order asked: first the claims, then the heartbeats."""

    kind: Literal["lease_reply"] = "lease_reply"
    version: Literal[1] = 1
    request_id: UUID
    answers: tuple[LeaseAnswer, ...]

    @property
    def message_id(self) -> UUID:
        """One for each request."""
        return derived_id(self.request_id, self.kind)


class AttemptSignal(Message):
    """Fanned out to every worker, so that a running attempt hears it within a second."""

    kind: Literal["attempt_signal"] = "attempt_signal"
    version: Literal[1] = 1
    key: AttemptKey
    verdict: Verdict

    @property
    def message_id(self) -> UUID:
        """One for each attempt and verdict."""
        return self.key.derive(self.verdict, self.kind)
